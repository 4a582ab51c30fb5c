// `attention-back.cu` for Hopper, with copies by the engine and groups that take turns as in `attention-bulk.cu`. A block
// has GROUPS times 64 keys for dk and dv, or such queries for dq; OF_KEYS: which. TG: the gradients' type.

/// The block's rows of `a` (with `a2`) against all allowed of `b` (with `b2`). Of keys, past which queries walk: a = k,
/// a2 = v, b = q, b2 = g -> out = dk, out2 = dv. Of queries: a = q, a2 = g, b = k, b2 = v -> out = dq.
template <bool of_keys>
DEVICE void back(u8 *memory, const TensorMap *a, const TensorMap *a2, const TensorMap *b, const TensorMap *b2,
                 const float *numbers, TG *out, TG *out2, const u64 *bits, const int *lists, float scale, int rows,
                 int others, int mask, i64 out_n, i64 out2_n) {
  constexpr int size = tile_bytes<64, D>;
  u8 *const stages = memory + 2 * GROUPS * size;
  // Of keys, the walking queries' numbers.
  float *const walking_numbers = (float *)(stages + SLOTS * size);
  // Later queries, and earlier keys, often have more others: of all heads they begin first, so that short blocks end
  // together.
  const int block = of_keys ? blockIdx.y : gridDim.y - 1 - blockIdx.y, first_row = block * GROUPS * 64;
  const int tiles = (others + 63) / 64, head = blockIdx.x, batch = blockIdx.z;
  const int *const list = lists + ((i64)mask * gridDim.y + block) * (tiles + 1);
  const int count = list[0], first_entry = others > 0 ? list[1] : 0, group = warp_group();
  const Slots slots = make_slots(walking_numbers + SLOTS / 2 * 128);

  if (group == GROUPS) {
    registers_less<24>();
    if (threadIdx.x % 128 == 0) {
      barrier_expect(slots.own_there, 2 * GROUPS * size);
      for (int i = 0; i < 2 * GROUPS; i++)
        bulk_tile<D>(memory + i * size, i % 2 ? a2 : a, first_row + i / 2 * 64, head, batch, slots.own_there);
      fill_slots<of_keys ? 512 : 0>(slots, stages, b, b2, list, first_entry, count, [&](int slot, int first) {
        if (of_keys) bulk_copy(walking_numbers + slot / 2 * 128, numbers + 2 * first, 512, slots.full + slot);
      });
    }
    return;
  }
  registers_more<240>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int row = first_row + group * 64 + warp * 16 + lane / 4, column = lane % 4 * 2;
  u8 *const tile_a1 = memory + 2 * group * size, *const tile_a2 = tile_a1 + size;
  bits += ((i64)mask * rows + row) * tiles;
  float own[4];
  if (!of_keys) load_numbers(own, numbers, row, rows);
  float sums[D / 8][4] = {}, sums2[of_keys ? D / 8 : 1][4] = {}, s[8][4];
  const float to_bits = scale * 1.4426950408889634f;
  auto tile = [&](int i) { return stages + i % SLOTS * size; };
  auto release = [&](int step) {
    __syncwarp();
    if (lane == 0)
      barrier_arrive(slots.empty + 2 * step % SLOTS), barrier_arrive(slots.empty + (2 * step + 1) % SLOTS);
  };
  barrier_wait(slots.own_there, 0);
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    wait_full(slots, 2 * step);
    // What nothing of is allowed for the group's rows has a place in the list for another group's.
    const int entry = slots.entries[step % (SLOTS / 2)];
    const bool is_whole = (entry >> 2 * group & 3) == 2;
    u64 allowed[2] = {0, 0};
    if (!is_whole) load_allowed(allowed, bits, row, rows, tiles, entry >> 2 * GROUPS);
    float d[8][4];
    await_turn(slots.turns, group, step);
    multiply_tiles<64, D / 16>(s, tile_a1, tile(2 * step), 0);
    wait_full(slots, 2 * step + 1);
    multiply_tiles<64, D / 16>(d, tile_a2, tile(2 * step + 1), 0);
    pass_turn(slots.turns, group);
    multiply_wait<1>(s);
    if (!is_whole) forbid(s, {allowed[0] >> column, allowed[1] >> column});
    const float *const others_numbers = walking_numbers + step % (SLOTS / 2) * 128 + 2 * column;
    weights_again<of_keys>(s, own, others_numbers, to_bits);
    wgmma_pin(s);
    if constexpr (of_keys) {
      u32 p[4][4];
      pack_tiles(p, s);
      multiply_as_is<64>(sums2, p, tile(2 * step + 1), 0);
    }
    multiply_wait<of_keys>(d);
    score_gradients<of_keys>(d, s, own, others_numbers);
    u32 f[4][4];
    pack_tiles(f, d);
    multiply_as_is<64>(sums, f, tile(2 * step), 0);
    multiply_wait<0>(sums);
    multiply_wait<0>(sums2);
    release(step);
  }
  give_gradients<of_keys>(out, out2, sums, sums2, scale, row, rows, column, out_n, out2_n);
}

#if OF_KEYS
/// Bits and lists are those of columns.
KERNEL(128 * GROUPS + 128, 1)
attention_back_keys_bulk(TENSOR_MAP(q), TENSOR_MAP(k), TENSOR_MAP(v), TENSOR_MAP(g), const float *numbers, TG *dk,
                         TG *dv, const u64 *bits, const int *lists, float scale, int n, int m, int mask_batch,
                         int mask_head, i64 dk_b, i64 dk_h, i64 dk_n, i64 dv_b, i64 dv_h, i64 dv_n) {
  SHARED_MEMORY(memory);
  const i64 plane = (i64)blockIdx.z * gridDim.x + blockIdx.x;
  back<true>(memory, &k, &v, &q, &g, numbers + 2 * plane * ((n + 63) / 64 * 64), dk + PLANE(dk), dv + PLANE(dv), bits,
             lists, scale, m, n, (int)blockIdx.z * mask_batch + (int)blockIdx.x * mask_head, dk_n, dv_n);
}
#else
/// Bits and lists are those of rows.
KERNEL(128 * GROUPS + 128, 1)
attention_back_queries_bulk(TENSOR_MAP(q), TENSOR_MAP(k), TENSOR_MAP(v), TENSOR_MAP(g), const float *numbers, TG *dq,
                            const u64 *bits, const int *lists, float scale, int n, int m, int mask_batch,
                            int mask_head, i64 dq_b, i64 dq_h, i64 dq_n) {
  SHARED_MEMORY(memory);
  const i64 plane = (i64)blockIdx.z * gridDim.x + blockIdx.x;
  back<false>(memory, &q, &g, &k, &v, numbers + 2 * plane * ((n + 63) / 64 * 64), dq + PLANE(dq), (TG *)0, bits, lists,
              scale, n, m, (int)blockIdx.z * mask_batch + (int)blockIdx.x * mask_head, dq_n, 0);
}
#endif
