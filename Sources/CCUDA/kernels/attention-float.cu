// Attention and its gradient in float32 arithmetic, for any width and any types: what `attention.cu` and
// `attention-back.cu` don't take. The same walk over the allowed tiles; a block of 256 threads has 64 rows and 64 of
// the result's columns, a thread (x, y) the rows y + 16 i and columns x + 16 j of them.
// TQ, TK, TV, TO: the types of queries, keys, values and the result; TG: of the result's gradient; TDQ, TDK, TDV: of
// the gradients.

constexpr float log2_e = 1.4426950408889634f;
typedef float Piece[16][65];

/// s = a bT for 64 rows of each, `a_rows` and `b_rows` of which there are.
template <class A, class B>
DEVICE void products(float (&s)[4][4], Piece &left, Piece &right, const A *a, i64 a_n, int a_rows, const B *b, i64 b_n,
                     int b_rows, int width) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < 16; i++) s[i / 4][i % 4] = 0;
#pragma unroll 1
  for (int start = 0; start < width; start += 16) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = y + 16 * i;
      left[x][row] = row < a_rows && start + x < width ? load(a + row * a_n + start + x) : 0;
      right[x][row] = row < b_rows && start + x < width ? load(b + row * b_n + start + x) : 0;
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 16; c++)
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) s[i][j] += left[c][y + 16 * i] * right[c][x + 16 * j];
  }
}

/// sums += p b for 64 rows of b, `b_rows` of which there are, and 64 columns, `columns` of which there are.
template <class B>
DEVICE void add_products(float (&sums)[4][4], float (&p)[64][65], Piece &piece, const B *b, i64 b_n, int b_rows,
                         int columns) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll 1
  for (int start = 0; start < 64; start += 16) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int column = x + 16 * j;
      piece[y][column] = start + y < b_rows && column < columns ? load(b + (start + y) * b_n + column) : 0;
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 16; c++)
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] += p[y + 16 * i][start + c] * piece[c][x + 16 * j];
  }
}

#ifdef FORWARD
KERNEL(256)
attention_float(const TQ *q, const TK *k, const TV *v, TO *result, float *logarithms, const u64 *bits,
                const int *lists, float scale, int n, int m, int width, int mask_batch, int mask_head, i64 q_b, i64 q_h,
                i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h, i64 v_n, i64 o_b, i64 o_h, i64 o_n) {
  __shared__ Piece left, right;
  __shared__ float p[64][65];
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
  const int row_tiles = (n + 63) / 64, tiles = (m + 63) / 64, tile = blockIdx.x % row_tiles, first_row = tile * 64;
  const int first_column = blockIdx.x / row_tiles * 64;
  const int mask = (int)blockIdx.z * mask_batch + (int)blockIdx.y * mask_head;
  const int *list = lists + ((i64)mask * row_tiles + tile) * (tiles + 1);
  bits += ((i64)mask * n + first_row) * tiles;
  q += blockIdx.z * q_b + blockIdx.y * q_h + first_row * q_n;
  k += blockIdx.z * k_b + blockIdx.y * k_h, v += blockIdx.z * v_b + blockIdx.y * v_h;

  float out[4][4] = {}, top[4], sum[4] = {};
  for (int i = 0; i < 4; i++) top[i] = -INFINITY;
  const int count = list[0];
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    const int other = list[1 + step] >> 2, first = other * 64;
    float s[4][4];
    products(s, left, right, q, q_n, n - first_row, k + first * k_n, k_n, m - first, width);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = y + 16 * i;
      const u64 allowed = first_row + row < n ? bits[(i64)row * tiles + other] >> x : 0;
      float high = top[i];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        s[i][j] = allowed >> 16 * j & 1 ? s[i][j] * scale : -INFINITY;
        high = fmaxf(high, s[i][j]);
      }
      for (int by = 1; by < 16; by *= 2) high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, by));
      const float base = high == -INFINITY ? 0 : high, shrink = fast_exp2((top[i] - base) * log2_e);
      top[i] = high;
      sum[i] *= shrink;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float weight = fast_exp2((s[i][j] - base) * log2_e);
        sum[i] += weight;
        p[row][x + 16 * j] = weight;
        out[i][j] *= shrink;
      }
    }
    add_products(out, p, right, v + first * v_n + first_column, v_n, m - first, width - first_column);
  }
  result += blockIdx.z * o_b + blockIdx.y * o_h;
  logarithms += ((i64)blockIdx.z * gridDim.y + blockIdx.y) * n;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    for (int by = 1; by < 16; by *= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], by);
    const int row = first_row + y + 16 * i;
    if (row >= n) continue;
    const bool empty = sum[i] == 0 || (top[i] <= -1e30f && sum[i] == sum[i]);
    if (x == 0 && first_column == 0) logarithms[row] = empty ? 0 : top[i] + logf(sum[i]);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int column = first_column + x + 16 * j;
      if (column < width) store(result + row * o_n + column, empty ? 0 : out[i][j] / sum[i]);
    }
  }
}
#else

/// As `back` in `attention-back.cu`.
template <bool of_keys, class A, class A2, class B, class B2, class Out, class Out2>
DEVICE void back(const A *a, const A2 *a2, const B *b, const B2 *b2, const float *numbers, Out *out, Out2 *out2,
                 const u64 *bits, const int *lists, float scale, int rows, int others, int width, int mask, i64 a_n,
                 i64 a2_n, i64 b_n, i64 b2_n, i64 out_n, i64 out2_n) {
  __shared__ Piece left, right;
  __shared__ float p[64][65];
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
  const int row_tiles = (rows + 63) / 64, tiles = (others + 63) / 64, tile = blockIdx.x % row_tiles;
  const int first_row = tile * 64, first_column = blockIdx.x / row_tiles * 64, columns = width - first_column;
  const int *list = lists + ((i64)mask * row_tiles + tile) * (tiles + 1);
  bits += ((i64)mask * rows + first_row) * tiles;
  a += first_row * a_n, a2 += first_row * a2_n;

  float sums[4][4] = {}, sums2[4][4] = {};
  const int count = list[0];
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    const int other = list[1 + step] >> 2, first = other * 64;
    float s[4][4], d[4][4];
    products(s, left, right, a, a_n, rows - first_row, b + first * b_n, b_n, others - first, width);
    products(d, left, right, a2, a2_n, rows - first_row, b2 + first * b2_n, b2_n, others - first, width);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = y + 16 * i;
      const u64 allowed = first_row + row < rows ? bits[(i64)row * tiles + other] >> x : 0;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float *query = numbers + 2 * (of_keys ? first + x + 16 * j : first_row + row);
        s[i][j] = allowed >> 16 * j & 1 ? fast_exp2(s[i][j] * scale * log2_e - query[0]) : 0;
        d[i][j] = s[i][j] * (d[i][j] - query[1]);
        p[row][x + 16 * j] = of_keys ? s[i][j] : d[i][j];
      }
    }
    if (of_keys) {
      add_products(sums2, p, right, b2 + first * b2_n + first_column, b2_n, others - first, columns);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < 16; i++) p[y + 16 * (i / 4)][x + 16 * (i % 4)] = d[i / 4][i % 4];
    }
    add_products(sums, p, right, b + first * b_n + first_column, b_n, others - first, columns);
  }
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int row = first_row + y + 16 * (i / 4), column = first_column + x + 16 * (i % 4);
    if (row >= rows || column >= width) continue;
    store(out + row * out_n + column, sums[i / 4][i % 4] * scale);
    if (of_keys) store(out2 + row * out2_n + column, sums2[i / 4][i % 4]);
  }
}

#define PLANE(name) blockIdx.z * name##_b + blockIdx.y * name##_h

KERNEL(256)
attention_float_back_keys(const TQ *q, const TK *k, const TV *v, const TG *g, const float *numbers, TDK *dk, TDV *dv,
                          const u64 *bits, const int *lists, float scale, int n, int m, int width, int mask_batch,
                          int mask_head, i64 q_b, i64 q_h, i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h,
                          i64 v_n, i64 g_b, i64 g_h, i64 g_n, i64 dk_b, i64 dk_h, i64 dk_n, i64 dv_b, i64 dv_h,
                          i64 dv_n) {
  const i64 plane = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  back<true>(k + PLANE(k), v + PLANE(v), q + PLANE(q), g + PLANE(g), numbers + 2 * plane * ((n + 63) / 64 * 64),
             dk + PLANE(dk), dv + PLANE(dv), bits, lists, scale, m, n, width,
             (int)blockIdx.z * mask_batch + (int)blockIdx.y * mask_head, k_n, v_n, q_n, g_n, dk_n, dv_n);
}

KERNEL(256)
attention_float_back_queries(const TQ *q, const TK *k, const TV *v, const TG *g, const float *numbers, TDQ *dq,
                             const u64 *bits, const int *lists, float scale, int n, int m, int width, int mask_batch,
                             int mask_head, i64 q_b, i64 q_h, i64 q_n, i64 k_b, i64 k_h, i64 k_n, i64 v_b, i64 v_h,
                             i64 v_n, i64 g_b, i64 g_h, i64 g_n, i64 dq_b, i64 dq_h, i64 dq_n) {
  const i64 plane = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  back<false>(q + PLANE(q), g + PLANE(g), k + PLANE(k), v + PLANE(v), numbers + 2 * plane * ((n + 63) / 64 * 64),
              dq + PLANE(dq), (TDQ *)0, bits, lists, scale, n, m, width,
              (int)blockIdx.z * mask_batch + (int)blockIdx.y * mask_head, q_n, g_n, k_n, v_n, dq_n, 0);
}
#endif
