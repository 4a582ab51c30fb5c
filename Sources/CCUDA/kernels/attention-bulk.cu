// `attention.cu` for Hopper (Shah et al. 2024, "FlashAttention-3"): two groups of four warps with 64 queries each, and a
// thread that has the engine copy keys and values ahead of them, into SLOTS tiles. One group has the tensor cores while
// the other takes exponentials; and within a group the scores of a tile are begun before the values of the one before
// are added.
static_assert(GROUPS == 2, "two take turns");

KERNEL(128 * GROUPS + 128, 1)
attention_bulk(TENSOR_MAP(q), TENSOR_MAP(k), TENSOR_MAP(v), TO *result, float *logarithms, const u64 *bits,
               const int *lists, float scale, int n, int m, int mask_batch, int mask_head, i64 o_b, i64 o_h, i64 o_n) {
  SHARED_MEMORY(memory);
  constexpr int size = tile_bytes<64, D>;
  u8 *const stages = memory + GROUPS * size;
  // Of the queries; and of each slot, that it is full, and that it may be filled again. Keys and values take turns.
  u64 *const queries_there = (u64 *)(stages + SLOTS * size), *const full = queries_there + 1, *const empty = full + SLOTS;
  u64 *const turns = empty + SLOTS;
  // The entry of the list that a slot's keys are of: read from global memory it would keep a group waiting.
  int *const entries = (int *)(turns + 2);
  // Later rows often have more keys: of all heads they begin first, so that short blocks end together.
  const int head = blockIdx.x, block = gridDim.y - 1 - blockIdx.y, first_row = block * GROUPS * 64;
  const int column_tiles = (m + 63) / 64, mask = (int)blockIdx.z * mask_batch + head * mask_head;
  const int *const list = lists + ((i64)mask * gridDim.y + block) * (column_tiles + 1);
  const int count = list[0], first_entry = m > 0 ? list[1] : 0, group = warp_group();
  if (threadIdx.x == 0) {
    barrier_init(queries_there, 1);
    for (int i = 0; i < SLOTS; i++) barrier_init(full + i, 1), barrier_init(empty + i, 4 * GROUPS);
    barrier_init(turns, 4), barrier_init(turns + 1, 4);
    barriers_seen();
  }
  __syncthreads();

  if (group == GROUPS) {
    registers_less<24>();
    if (threadIdx.x % 128 == 0) {
      barrier_expect(queries_there, GROUPS * size);
      for (int i = 0; i < GROUPS; i++)
        bulk_tile<D>(memory + i * size, &q, first_row + i * 64, head, blockIdx.z, queries_there);
      int next = first_entry;
#pragma unroll 1
      for (int step = 0; step < count; step++) {
        const int entry = next, first = (entry >> 2 * GROUPS) * 64;
        if (step + 1 < count) next = list[2 + step];
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int slot = (2 * step + i) % SLOTS;
          barrier_wait(empty + slot, ((2 * step + i) / SLOTS + 1) & 1);
          if (i == 0) entries[slot / 2] = entry;
          barrier_expect(full + slot, size);
          bulk_tile<D>(stages + slot * size, i ? &v : &k, first, head, blockIdx.z, full + slot);
        }
      }
    }
  } else {
    registers_more<240>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    // Of the warp's accumulators a thread has two rows, the second 8 below, and of 8 columns two.
    const int row = first_row + group * 64 + warp * 16 + lane / 4, column = lane % 4 * 2;
    bits += ((i64)mask * n + row) * column_tiles;
    barrier_wait(queries_there, 0);
    u32 a[D / 16][4];
#pragma unroll
    for (int i = 0; i < D / 16; i++) tile_a<64>(a[i], memory + group * size, warp * 16, i * 16);

    float s[8][4], out[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2] = {1, 1};
    u32 p[4][4];
    const float to_bits = scale * 1.4426950408889634f;  // exp(x) is taken as exp2
    auto wait_full = [&](int i) { barrier_wait(full + i % SLOTS, i / SLOTS & 1); };
    auto release = [&](int i) {
      __syncwarp();
      if (lane == 0) barrier_arrive(empty + i % SLOTS);
    };
    // What is allowed of the tile's keys to the thread's two rows, and whether all is.
    u64 allowed[2] = {};
    bool is_whole;
    auto wait_keys = [&](int step) {
      wait_full(2 * step);
      // What nothing of is allowed for the group's rows has a place in the list for another group's.
      const int entry = entries[step % (SLOTS / 2)];
      is_whole = (entry >> 2 * group & 3) == 2;
      if (is_whole) return;
#pragma unroll
      for (int r = 0; r < 2; r++)
        allowed[r] = row + 8 * r < n ? bits[(i64)8 * r * column_tiles + (entry >> 2 * GROUPS)] : 0;
    };
    auto begin_scores = [&](int step) { multiply<64>(s, a, stages + 2 * step % SLOTS * size, 0); };
    auto begin_sums = [&](int step) {
      wait_full(2 * step + 1);
      multiply_as_is<64>(out, p, stages + (2 * step + 1) % SLOTS * size, 0);
    };
    // Scores to weights, relative to `top`, which follows the largest score when it is 2^8 above: few tiles change it.
    auto weigh = [&] {
#pragma unroll
      for (int r = 0; r < 2; r++) {
        if (!is_whole) {
          const u64 mine = allowed[r] >> column;
#pragma unroll
          for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
              if (!((u32)(mine >> (j / 4 * 32)) >> (j % 4 * 8 + e) & 1)) s[j][2 * r + e] = -INFINITY;
        }
        float high = s[0][2 * r];
#pragma unroll
        for (int j = 0; j < 8; j++) high = fmaxf(high, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
        shrink[r] = 1;
        if (high * to_bits > top[r] * to_bits + 8) shrink[r] = fast_exp2((top[r] - high) * to_bits), top[r] = high;
        const float base = top[r] == -INFINITY ? 0.0f : top[r] * to_bits;
        sum[r] *= shrink[r];
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
          for (int e = 0; e < 2; e++) sum[r] += s[j][2 * r + e] = fast_exp2(s[j][2 * r + e] * to_bits - base);
      }
    };

    if (count > 0) {
      wait_keys(0);
      await_turn(turns, group, 0);
      begin_scores(0);
      pass_turn(turns, group);
      multiply_wait<0>(s);
      release(0);
      weigh();
      pack_tiles(p, s);
#pragma unroll 1
      for (int step = 1; step < count; step++) {
        wait_keys(step);
        await_turn(turns, group, step);
        begin_scores(step);
        begin_sums(step - 1);
        pass_turn(turns, group);
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

    result += blockIdx.z * o_b + head * o_h;
    logarithms += ((i64)blockIdx.z * gridDim.x + head) * n;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
      if (row + 8 * r >= n) continue;
      // No key, or none whose score counts: zeros. A sum that is not a number stays one.
      const bool is_empty = sum[r] == 0 || (top[r] * scale <= -1e30f && sum[r] == sum[r]);
      const float factor = is_empty ? 0 : 1 / sum[r];
      if (column == 0) logarithms[row + 8 * r] = is_empty ? 0 : top[r] * scale + logf(sum[r]);
#pragma unroll
      for (int j = 0; j < WIDTH / 8; j++)
        store2(result + (row + 8 * r) * o_n + j * 8 + column, out[j][2 * r] * factor, out[j][2 * r + 1] * factor);
    }
  }
}
