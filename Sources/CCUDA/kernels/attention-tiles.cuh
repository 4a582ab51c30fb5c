// What the kernels of attention on tensor cores share. Of a tile of scores a warp has 16 rows, and a thread two of them,
// `row` and 8 below, and of 8 columns two, from `column` on. Defines: WIDTH, D as in `attention.cu`.

/// What of a tile is allowed to the thread's rows, a bit a column.
DEVICE void load_allowed(u64 (&allowed)[2], const u64 *bits, int row, int rows, int tiles, int tile) {
#pragma unroll
  for (int r = 0; r < 2; r++) allowed[r] = row + 8 * r < rows ? bits[(i64)8 * r * tiles + tile] : 0;
}
/// Scores of `count` rows from `r` on that are not allowed count nothing. `allowed` begins at the thread's first column.
template <int n> DEVICE void forbid(float (&s)[n][4], const u64 (&allowed)[2], int r = 0, int count = 2) {
#pragma unroll
  for (int j = 0; j < n; j++)
#pragma unroll
    for (int e = 0; e < 2 * count; e++)
      if (!((u32)(allowed[r + e / 2] >> (j / 4 * 32)) >> (j % 4 * 8 + e % 2) & 1)) s[j][2 * r + e] = -INFINITY;
}

// MARK: Forward

/// The largest of `high` and of all scores of the row that thread's row `r` is.
DEVICE float highest(float high, const float (&s)[8][4], int r) {
#pragma unroll
  for (int j = 0; j < 8; j++) high = fmaxf(high, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
  high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
  return fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
}
/// Scores of row `r` to weights, which are added to `sum`.
DEVICE void take_exponentials(float (&s)[8][4], float &sum, int r, float to_bits, float base) {
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) sum += s[j][2 * r + e] = fast_exp2(s[j][2 * r + e] * to_bits - base);
}
/// The weighted sums `out` by the sums of weights, and the logarithms of these; `n` rows, `step` apart in `result`.
template <class T>
DEVICE void give(T *result, float *logarithms, const float (&out)[D / 8][4], float (&sum)[2], const float (&top)[2],
                 float scale, int row, int n, int column, i64 step) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    if (row + 8 * r >= n) continue;
    // No key, or none whose score counts: zeros. A sum that is not a number stays one.
    const bool empty = sum[r] == 0 || (top[r] * scale <= -1e30f && sum[r] == sum[r]);
    const float factor = empty ? 0 : 1 / sum[r];
    if (column == 0) logarithms[row + 8 * r] = empty ? 0 : top[r] * scale + logf(sum[r]);
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++)
      store2(result + (row + 8 * r) * step + j * 8 + column, out[j][2 * r] * factor, out[j][2 * r + 1] * factor);
  }
}

// MARK: Backward
//
// `own`: the numbers (`attention-numbers.cu`) of the thread's rows, where those are queries; where the columns are
// (`of_keys`), theirs begin at `others`.

/// Where `of_keys` doesn't say so, the numbers of the thread's rows.
DEVICE void load_numbers(float (&own)[4], const float *numbers, int row, int rows) {
#pragma unroll
  for (int i = 0; i < 4; i++) own[i] = row < rows ? numbers[2 * (row + i / 2 * 8) + i % 2] : 0;
}
/// Scores to the weights that they had forward.
template <bool of_keys, int n>
DEVICE void weights_again(float (&s)[n][4], const float (&own)[4], const float *others, float to_bits) {
#pragma unroll
  for (int j = 0; j < n; j++) {
    float other[4];
    if (of_keys) load4(other, others + 16 * j);
#pragma unroll
    for (int e = 0; e < 4; e++)
      s[j][e] = fast_exp2(s[j][e] * to_bits - (of_keys ? other[e % 2 * 2] : own[e / 2 * 2]));
  }
}
/// Gradients `d` of weights `s` to those of scores.
template <bool of_keys, int n>
DEVICE void score_gradients(float (&d)[n][4], const float (&s)[n][4], const float (&own)[4], const float *others) {
#pragma unroll
  for (int j = 0; j < n; j++) {
    float other[4];
    if (of_keys) load4(other, others + 16 * j);
#pragma unroll
    for (int e = 0; e < 4; e++) d[j][e] = s[j][e] * (d[j][e] - (of_keys ? other[e % 2 * 2 + 1] : own[e / 2 * 2 + 1]));
  }
}
/// Sums of `rows` rows to memory, those in `sums2` only of keys.
template <bool of_keys, class T, int n>
DEVICE void give_gradients(T *out, T *out2, const float (&sums)[D / 8][4], const float (&sums2)[n][4], float scale,
                           int row, int rows, int column, i64 step, i64 step2) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= rows) continue;
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++) {
      store2(out + (row + 8 * r) * step + j * 8 + column, sums[j][2 * r] * scale, sums[j][2 * r + 1] * scale);
      if (of_keys) store2(out2 + (row + 8 * r) * step2 + j * 8 + column, sums2[j][2 * r], sums2[j][2 * r + 1]);
    }
  }
}

/// Where a block's matrix begins, by its batch and head.
#define PLANE(name) blockIdx.z * name##_b + blockIdx.x * name##_h
