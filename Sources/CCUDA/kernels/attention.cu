// softmax(scale q kT where mask) v, of bfloat16, without the matrix of scores (Dao 2023, "FlashAttention-2"): a block
// takes 64 queries of one head and walks the tiles of 64 keys that its mask allows to any. Each of its four warps has 16
// queries. While they work on a tile, the next one comes.
// WIDTH: of the heads, a multiple of 16 up to D, which is 16, 32, 64 or 128. TO: the result's type.
// `attention-mask.cu` makes bits and lists. A matrix's rows lie at batch * (its _b) + head * (_h) + token * (_n).

KERNEL(128)
attention(const bf16 *q, const bf16 *k, const bf16 *v, TO *result, float *logarithms, const u64 *bits,
          const int *lists, float scale, int n, int m, int mask_batch, int mask_head, i64 q_b, i64 q_h, i64 q_n,
          i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h, i64 v_n, i64 o_b, i64 o_h, i64 o_n) {
  SHARED_MEMORY(memory);
  constexpr int size = tile_bytes<64, D>, threads = 128;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  u8 *const queries = memory, *const stages = memory + size;
  // Later rows often have more keys: of all heads they begin first, so that short blocks end together.
  const int head = blockIdx.x, block = gridDim.y - 1 - blockIdx.y, first_row = block * 64;
  const int column_tiles = (m + 63) / 64, mask = (int)blockIdx.z * mask_batch + head * mask_head;
  q += blockIdx.z * q_b + head * q_h;
  k += blockIdx.z * k_b + head * k_h, v += blockIdx.z * v_b + head * v_h;
  const int *list = lists + ((i64)mask * gridDim.y + block) * (column_tiles + 1);
  const int count = list[0];
  // Of the warp's accumulators a thread has two rows, the second 8 below, and of 8 columns two.
  const int row = first_row + warp * 16 + lane / 4, column = lane % 4 * 2;
  bits += ((i64)mask * n + row) * column_tiles;

  auto begin = [&](int step) {
    const int first = (list[1 + step] >> 2) * 64;
    u8 *to = stages + step % 2 * 2 * size;
    tile_load<64, D, threads, WIDTH>(to, k + first * k_n, k_n, m - first);
    tile_load<64, D, threads, WIDTH>(to + size, v + first * v_n, v_n, m - first);
  };
  tile_load<64, D, threads, WIDTH>(queries, q + first_row * q_n, q_n, n - first_row);
  copy_commit();
  if (count > 0) begin(0);
  copy_commit();
  copy_wait<1>();
  __syncthreads();
  u32 a[D / 16][4];
#pragma unroll
  for (int i = 0; i < D / 16; i++) tile_a<64>(a[i], queries, warp * 16, i * 16);

  float out[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  const float to_bits = scale * 1.4426950408889634f;  // exp(x) is taken as exp2
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    tiles_wait();
    if (step + 1 < count) begin(step + 1);
    copy_commit();
    const int entry = list[1 + step], kind = entry & 3;
    u8 *const keys = stages + step % 2 * 2 * size, *const values = keys + size;
    u64 allowed[2] = {~0ull, ~0ull};
    if (kind == 1) {
      load_allowed(allowed, bits, row, n, column_tiles, entry >> 2);
      allowed[0] >>= column, allowed[1] >>= column;
    }
    float s[8][4];
    multiply<64>(s, a, keys, 0);
    multiply_wait<0>(s);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (kind == 1) forbid(s, allowed, r, 1);
      const float high = highest(top[r], s, r);
      const float base = high == -INFINITY ? 0.0f : high * to_bits;
      const float shrink = fast_exp2(top[r] * to_bits - base);
      top[r] = high;
      sum[r] *= shrink;
      take_exponentials(s, sum[r], r, to_bits, base);
#pragma unroll
      for (int j = 0; j < D / 8; j++) out[j][2 * r] *= shrink, out[j][2 * r + 1] *= shrink;
    }
    u32 p[4][4];
    pack_tiles(p, s);
    multiply_as_is<64>(out, p, values, 0);
    multiply_wait<0>(out);
  }

  logarithms += ((i64)blockIdx.z * gridDim.x + head) * n;
  give(result + PLANE(o), logarithms, out, sum, top, scale, row, n, column, o_n);
}
