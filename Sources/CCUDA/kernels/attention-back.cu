// The gradient of `attention.cu` (Dao 2023): a block has 64 keys for dk and dv, or 64 queries for dq. The scores are
// computed again, and no two blocks add to the same place, so that the sums' order is fixed. WIDTH, D, bits, lists and
// strides as in `attention.cu`; `attention-numbers.cu` makes numbers. TG: the gradients' type.

/// 64 rows of `a` (with `a2`) against all allowed of `b` (with `b2`). Of keys, past which queries walk: a = k, a2 = v,
/// b = q, b2 = g -> out = dk, out2 = dv. Of queries: a = q, a2 = g, b = k, b2 = v -> out = dq.
template <bool of_keys>
DEVICE void back(u8 *memory, const bf16 *a, const bf16 *a2, const bf16 *b, const bf16 *b2, const float *numbers,
                 TG *out, TG *out2, const u64 *bits, const int *lists, float scale, int rows, int others, int mask,
                 i64 a_n, i64 a2_n, i64 b_n, i64 b2_n, i64 out_n, i64 out2_n) {
  constexpr int size = tile_bytes<64, D>, stage = 2 * size + (of_keys ? 512 : 0);
  // Of a tile that walks past, at once: what the registers hold.
  constexpr int part = WIDTH == D ? 32 : 16;
  u8 *const tile_a1 = memory, *const tile_a2 = memory + size, *const stages = memory + 2 * size;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first_row = blockIdx.x * 64;
  const int tiles = (others + 63) / 64;
  const int *list = lists + ((i64)mask * gridDim.x + blockIdx.x) * (tiles + 1);
  const int count = list[0];
  const int row = first_row + warp * 16 + lane / 4, column = lane % 4 * 2;
  bits += ((i64)mask * rows + row) * tiles;

  auto begin = [&](int step) {
    u8 *to = stages + step % 2 * stage;
    const int first = (list[1 + step] >> 1) * 64;
    tile_load<64, D, 128, WIDTH>(to, b + first * b_n, b_n, others - first);
    tile_load<64, D, 128, WIDTH>(to + size, b2 + first * b2_n, b2_n, others - first);
    if (of_keys && threadIdx.x < 32)
      copy_async(to + 2 * size + threadIdx.x * 16, numbers + 2 * first + threadIdx.x * 4, true);
  };
  tile_load<64, D, 128, WIDTH>(tile_a1, a + first_row * a_n, a_n, rows - first_row);
  tile_load<64, D, 128, WIDTH>(tile_a2, a2 + first_row * a2_n, a2_n, rows - first_row);
  if (count > 0) begin(0);
  copy_commit();

  float own[4];
  if (!of_keys) {
#pragma unroll
    for (int i = 0; i < 4; i++) own[i] = numbers[2 * (row + i / 2 * 8) + i % 2];
  }
  float sums[D / 8][4] = {}, sums2[of_keys ? D / 8 : 1][4] = {};
  const float to_bits = scale * 1.4426950408889634f;
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    copy_wait<0>();
    __syncthreads();
    if (step + 1 < count) begin(step + 1);
    copy_commit();
    u8 *const tile_b1 = stages + step % 2 * stage, *const tile_b2 = tile_b1 + size;
    const int entry = list[1 + step];
    u64 allowed[2] = {~0ull, ~0ull};
    if (entry & 1) {
#pragma unroll
      for (int r = 0; r < 2; r++)
        allowed[r] = row + 8 * r < rows ? bits[(i64)8 * r * tiles + (entry >> 1)] >> column : 0;
    }
#pragma unroll 1
    for (int start = 0; start < 64; start += part) {
      float s[part / 8][4] = {}, d[part / 8][4] = {};
#pragma unroll
      for (int i = 0; i < D / 16; i++) {
        u32 x[4], y[4];
        tile_a<64>(x, tile_a1, warp * 16, i * 16);
#pragma unroll
        for (int j = 0; j < part / 16; j++) {
          tile_b<64>(y, tile_b1, start + j * 16, i * 16);
          mma_bf16(s[2 * j], x, y[0], y[1]);
          mma_bf16(s[2 * j + 1], x, y[2], y[3]);
        }
        tile_a<64>(x, tile_a2, warp * 16, i * 16);
#pragma unroll
        for (int j = 0; j < part / 16; j++) {
          tile_b<64>(y, tile_b2, start + j * 16, i * 16);
          mma_bf16(d[2 * j], x, y[0], y[1]);
          mma_bf16(d[2 * j + 1], x, y[2], y[3]);
        }
      }
#pragma unroll
      for (int j = 0; j < part / 8; j++) {
        float other[4];
        if (of_keys) load4(other, (const float *)(tile_b1 + 2 * size) + 2 * (start + j * 8 + column));
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int r = e / 2, c = e % 2;
          const bool may = (u32)(allowed[r] >> start) >> (j * 8 + c) & 1;
          const float logarithm = of_keys ? other[2 * c] : own[2 * r];
          const float mean = of_keys ? other[2 * c + 1] : own[2 * r + 1];
          s[j][e] = may ? fast_exp2(s[j][e] * to_bits - logarithm) : 0;
          d[j][e] = s[j][e] * (d[j][e] - mean);
        }
      }
#pragma unroll
      for (int i = 0; i < part / 16; i++) {
        const u32 p[4] = {pack_bf16(s[2 * i][0], s[2 * i][1]), pack_bf16(s[2 * i][2], s[2 * i][3]),
                          pack_bf16(s[2 * i + 1][0], s[2 * i + 1][1]), pack_bf16(s[2 * i + 1][2], s[2 * i + 1][3])};
        const u32 f[4] = {pack_bf16(d[2 * i][0], d[2 * i][1]), pack_bf16(d[2 * i][2], d[2 * i][3]),
                          pack_bf16(d[2 * i + 1][0], d[2 * i + 1][1]), pack_bf16(d[2 * i + 1][2], d[2 * i + 1][3])};
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
          u32 y[4];
          tile_b_as_is<64>(y, tile_b1, start + i * 16, j * 16);
          mma_bf16(sums[2 * j], f, y[0], y[1]);
          mma_bf16(sums[2 * j + 1], f, y[2], y[3]);
          if (of_keys) {
            tile_b_as_is<64>(y, tile_b2, start + i * 16, j * 16);
            mma_bf16(sums2[2 * j], p, y[0], y[1]);
            mma_bf16(sums2[2 * j + 1], p, y[2], y[3]);
          }
        }
      }
    }
  }
  copy_wait<0>();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= rows) continue;
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++) {
      store2(out + (row + 8 * r) * out_n + j * 8 + column, sums[j][2 * r] * scale, sums[j][2 * r + 1] * scale);
      if (of_keys) store2(out2 + (row + 8 * r) * out2_n + j * 8 + column, sums2[j][2 * r], sums2[j][2 * r + 1]);
    }
  }
}

#define PLANE(name) blockIdx.z * name##_b + blockIdx.y * name##_h

/// A block takes 64 keys; bits and lists are those of columns.
KERNEL(128)
attention_back_keys(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g, const float *numbers, TG *dk, TG *dv,
                    const u64 *bits, const int *lists, float scale, int n, int m, int mask_batch, int mask_head,
                    i64 q_b, i64 q_h, i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h, i64 v_n, i64 g_b, i64 g_h,
                    i64 g_n, i64 dk_b, i64 dk_h, i64 dk_n, i64 dv_b, i64 dv_h, i64 dv_n) {
  SHARED_MEMORY(memory);
  const i64 plane = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  back<true>(memory, k + PLANE(k), v + PLANE(v), q + PLANE(q), g + PLANE(g),
             numbers + 2 * plane * ((n + 63) / 64 * 64), dk + PLANE(dk), dv + PLANE(dv), bits, lists, scale, m, n,
             (int)blockIdx.z * mask_batch + (int)blockIdx.y * mask_head, k_n, v_n, q_n, g_n, dk_n, dv_n);
}

/// A block takes 64 queries; bits and lists are those of rows.
KERNEL(128)
attention_back_queries(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g, const float *numbers, TG *dq,
                       const u64 *bits, const int *lists, float scale, int n, int m, int mask_batch, int mask_head,
                       i64 q_b, i64 q_h, i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h, i64 v_n, i64 g_b,
                       i64 g_h, i64 g_n, i64 dq_b, i64 dq_h, i64 dq_n) {
  SHARED_MEMORY(memory);
  const i64 plane = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  back<false>(memory, q + PLANE(q), g + PLANE(g), k + PLANE(k), v + PLANE(v),
              numbers + 2 * plane * ((n + 63) / 64 * 64), dq + PLANE(dq), (TG *)0, bits, lists, scale, n, m,
              (int)blockIdx.z * mask_batch + (int)blockIdx.y * mask_head, q_n, g_n, k_n, v_n, dq_n, 0);
}
