// The gradient of `attention.cu` (Dao 2023): a block has 64 keys for dk and dv, or 64 queries for dq.
// The scores are computed again, and no two blocks add to the same place, so that the sums' order is fixed. WIDTH, D,
// bits, lists and strides as in `attention.cu`; `attention-numbers.cu` makes numbers. TG: the gradients' type. OF_KEYS:
// which of the two.

/// The block's rows of `a` (with `a2`) against all allowed of `b` (with `b2`). Of keys, past which queries walk: a = k,
/// a2 = v, b = q, b2 = g -> out = dk, out2 = dv. Of queries: a = q, a2 = g, b = k, b2 = v -> out = dq.
template <bool of_keys>
DEVICE void back(u8 *memory, const bf16 *a, const bf16 *a2, const bf16 *b, const bf16 *b2, const float *numbers,
                 TG *out, TG *out2, const u64 *bits, const int *lists, float scale, int rows, int others, int mask,
                 i64 a_n, i64 a2_n, i64 b_n, i64 b2_n, i64 out_n, i64 out2_n) {
  constexpr int size = tile_bytes<64, D>, threads = 128;
  // Of a tile that walks past, at once: what the registers hold.
  constexpr int part = WIDTH == D ? 32 : 16;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  u8 *const stages = memory + 2 * size, *const walking_numbers = stages + 4 * size;
  // Later queries, and earlier keys, often have more others: of all heads they begin first, so that short blocks end
  // together.
  const int block = of_keys ? blockIdx.y : gridDim.y - 1 - blockIdx.y, first_row = block * 64;
  const int tiles = (others + 63) / 64;
  const int *list = lists + ((i64)mask * gridDim.y + block) * (tiles + 1);
  const int count = list[0];
  const int row = first_row + warp * 16 + lane / 4, column = lane % 4 * 2;
  bits += ((i64)mask * rows + row) * tiles;

  auto begin = [&](int step) {
    u8 *to = stages + step % 2 * 2 * size;
    const int first = (list[1 + step] >> 2) * 64;
    tile_load<64, D, threads, WIDTH>(to, b + first * b_n, b_n, others - first);
    tile_load<64, D, threads, WIDTH>(to + size, b2 + first * b2_n, b2_n, others - first);
    if (of_keys && threadIdx.x < 32)
      copy_async(walking_numbers + step % 2 * 512 + threadIdx.x * 16, numbers + 2 * first + threadIdx.x * 4, true);
  };
  u8 *const tile_a1 = memory, *const tile_a2 = memory + size;
  tile_load<64, D, threads, WIDTH>(tile_a1, a + first_row * a_n, a_n, rows - first_row);
  tile_load<64, D, threads, WIDTH>(tile_a2, a2 + first_row * a2_n, a2_n, rows - first_row);
  if (count > 0) begin(0);
  copy_commit();

  float own[4];
  if (!of_keys) load_numbers(own, numbers, row, rows);
  float sums[D / 8][4] = {}, sums2[of_keys ? D / 8 : 1][4] = {};
  const float to_bits = scale * 1.4426950408889634f;
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    tiles_wait();
    if (step + 1 < count) begin(step + 1);
    copy_commit();
    const int entry = list[1 + step], kind = entry & 3;
    u8 *const tile_b1 = stages + step % 2 * 2 * size, *const tile_b2 = tile_b1 + size;
    u64 allowed[2] = {~0ull, ~0ull};
    if (kind == 1) {
      load_allowed(allowed, bits, row, rows, tiles, entry >> 2);
      allowed[0] >>= column, allowed[1] >>= column;
    }
#pragma unroll 1
    for (int start = 0; start < 64; start += part) {
      float s[part / 8][4], d[part / 8][4];
      // While the tensor cores have the next product, the threads have what the one before gave.
      multiply_tiles<64, D / 16>(s, tile_a1, tile_b1, start);
      multiply_tiles<64, D / 16>(d, tile_a2, tile_b2, start);
      multiply_wait<1>(s);
      if (kind == 1) forbid(s, {allowed[0] >> start, allowed[1] >> start});
      const float *const others_numbers = (const float *)(walking_numbers + step % 2 * 512) + 2 * (start + column);
      weights_again<of_keys>(s, own, others_numbers, to_bits);
      if constexpr (of_keys) {
        u32 p[part / 16][4];
        pack_tiles(p, s);
        multiply_as_is<64>(sums2, p, tile_b2, start);
      }
      multiply_wait<of_keys>(d);
      score_gradients<of_keys>(d, s, own, others_numbers);
      u32 f[part / 16][4];
      pack_tiles(f, d);
      multiply_as_is<64>(sums, f, tile_b1, start);
      multiply_wait<0>(sums);
      multiply_wait<0>(sums2);
    }
  }
  copy_wait<0>();
  give_gradients<of_keys>(out, out2, sums, sums2, scale, row, rows, column, out_n, out2_n);
}

#if OF_KEYS
/// Bits and lists are those of columns.
KERNEL(128)
attention_back_keys(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g, const float *numbers, TG *dk, TG *dv,
                    const u64 *bits, const int *lists, float scale, int n, int m, int mask_batch, int mask_head,
                    i64 q_b, i64 q_h, i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h, i64 v_n, i64 g_b, i64 g_h,
                    i64 g_n, i64 dk_b, i64 dk_h, i64 dk_n, i64 dv_b, i64 dv_h, i64 dv_n) {
  SHARED_MEMORY(memory);
  const i64 plane = (i64)blockIdx.z * gridDim.x + blockIdx.x;
  back<true>(memory, k + PLANE(k), v + PLANE(v), q + PLANE(q), g + PLANE(g),
             numbers + 2 * plane * ((n + 63) / 64 * 64), dk + PLANE(dk), dv + PLANE(dv), bits, lists, scale, m, n,
             (int)blockIdx.z * mask_batch + (int)blockIdx.x * mask_head, k_n, v_n, q_n, g_n, dk_n, dv_n);
}
#else
/// Bits and lists are those of rows.
KERNEL(128)
attention_back_queries(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g, const float *numbers, TG *dq,
                       const u64 *bits, const int *lists, float scale, int n, int m, int mask_batch, int mask_head,
                       i64 q_b, i64 q_h, i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h, i64 v_n, i64 g_b,
                       i64 g_h, i64 g_n, i64 dq_b, i64 dq_h, i64 dq_n) {
  SHARED_MEMORY(memory);
  const i64 plane = (i64)blockIdx.z * gridDim.x + blockIdx.x;
  back<false>(memory, q + PLANE(q), g + PLANE(g), k + PLANE(k), v + PLANE(v),
              numbers + 2 * plane * ((n + 63) / 64 * 64), dq + PLANE(dq), (TG *)0, bits, lists, scale, n, m,
              (int)blockIdx.z * mask_batch + (int)blockIdx.x * mask_head, q_n, g_n, k_n, v_n, dq_n, 0);
}
#endif
