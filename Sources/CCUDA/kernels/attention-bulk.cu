// `attention.cu` for Hopper (Shah et al. 2024, "FlashAttention-3"): two groups of four warps with 64 queries each, and a
// thread that has the engine copy keys and values ahead of them, into SLOTS tiles. One group has the tensor cores while
// the other takes exponentials; and within a group the scores of a tile are begun before the values of the one before
// are added.

KERNEL(128 * GROUPS + 128, 1)
attention_bulk(TENSOR_MAP(q), TENSOR_MAP(k), TENSOR_MAP(v), TO *result, float *logarithms, const u64 *bits,
               const int *lists, float scale, int n, int m, int mask_batch, int mask_head, i64 o_b, i64 o_h, i64 o_n) {
  SHARED_MEMORY(memory);
  constexpr int size = tile_bytes<64, D>;
  u8 *const stages = memory + GROUPS * size;
  // Later rows often have more keys: of all heads they begin first, so that short blocks end together.
  const int head = blockIdx.x, block = gridDim.y - 1 - blockIdx.y, first_row = block * GROUPS * 64;
  const int column_tiles = (m + 63) / 64, mask = (int)blockIdx.z * mask_batch + head * mask_head;
  const int *const list = lists + ((i64)mask * gridDim.y + block) * (column_tiles + 1);
  const int count = list[0], first_entry = m > 0 ? list[1] : 0, group = warp_group();
  const Slots slots = make_slots(stages + SLOTS * size);

  if (group == GROUPS) {
    registers_less<24>();
    if (threadIdx.x % 128 == 0) {
      barrier_expect(slots.own_there, GROUPS * size);
      for (int i = 0; i < GROUPS; i++)
        bulk_tile<D>(memory + i * size, &q, first_row + i * 64, head, blockIdx.z, slots.own_there);
      fill_slots<0>(slots, stages, &k, &v, list, first_entry, count, [](int, int) {});
    }
  } else {
    registers_more<240>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    // Of the warp's accumulators a thread has two rows, the second 8 below, and of 8 columns two.
    const int row = first_row + group * 64 + warp * 16 + lane / 4, column = lane % 4 * 2;
    bits += ((i64)mask * n + row) * column_tiles;
    barrier_wait(slots.own_there, 0);
    u32 a[D / 16][4];
#pragma unroll
    for (int i = 0; i < D / 16; i++) tile_a<64>(a[i], memory + group * size, warp * 16, i * 16);

    float s[8][4], out[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2] = {1, 1};
    u32 p[4][4];
    const float to_bits = scale * 1.4426950408889634f;  // exp(x) is taken as exp2
    auto release = [&](int i) {
      __syncwarp();
      if (lane == 0) barrier_arrive(slots.empty + i % SLOTS);
    };
    // What is allowed of the tile's keys to the thread's two rows, and whether all is.
    u64 allowed[2] = {};
    bool is_whole;
    auto wait_keys = [&](int step) {
      wait_full(slots, 2 * step);
      // What nothing of is allowed for the group's rows has a place in the list for another group's.
      const int entry = slots.entries[step % (SLOTS / 2)];
      is_whole = (entry >> 2 * group & 3) == 2;
      if (!is_whole) load_allowed(allowed, bits, row, n, column_tiles, entry >> 2 * GROUPS);
    };
    auto begin_scores = [&](int step) { multiply<64>(s, a, stages + 2 * step % SLOTS * size, 0); };
    auto begin_sums = [&](int step) {
      wait_full(slots, 2 * step + 1);
      multiply_as_is<64>(out, p, stages + (2 * step + 1) % SLOTS * size, 0);
    };
    // Scores to weights, relative to `top`, which follows the largest score when it is 2^8 above: few tiles change it.
    auto weigh = [&] {
#pragma unroll
      for (int r = 0; r < 2; r++) {
        if (!is_whole) forbid(s, {allowed[0] >> column, allowed[1] >> column}, r, 1);
        const float high = highest(s[0][2 * r], s, r);
        shrink[r] = 1;
        if (high * to_bits > top[r] * to_bits + 8) shrink[r] = fast_exp2((top[r] - high) * to_bits), top[r] = high;
        const float base = top[r] == -INFINITY ? 0.0f : top[r] * to_bits;
        sum[r] *= shrink[r];
        take_exponentials(s, sum[r], r, to_bits, base);
      }
    };

    if (count > 0) {
      wait_keys(0);
      await_turn(slots.turns, group, 0);
      begin_scores(0);
      pass_turn(slots.turns, group);
      multiply_wait<0>(s);
      release(0);
      weigh();
      pack_tiles(p, s);
#pragma unroll 1
      for (int step = 1; step < count; step++) {
        wait_keys(step);
        await_turn(slots.turns, group, step);
        begin_scores(step);
        begin_sums(step - 1);
        pass_turn(slots.turns, group);
        multiply_wait<1>(s);
        release(2 * step);
        weigh();
        // A branch, so that the exponentials are not put off until the sums are there.
        const bool shrinks = __any_sync(0xffffffffu, shrink[0] != 1 || shrink[1] != 1);
        wgmma_pin(s);
        if (shrinks) {
          multiply_wait<0>(out);
#pragma unroll
          for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) out[j][e] *= shrink[e / 2];
        } else {
          multiply_wait<0>(out);
        }
        release(2 * step - 1);
        pack_tiles(p, s);
      }
      begin_sums(count - 1);
      multiply_wait<0>(out);
    }

    logarithms += ((i64)blockIdx.z * gridDim.x + head) * n;
    give(result + PLANE(o), logarithms, out, sum, top, scale, row, n, column, o_n);
  }
}
