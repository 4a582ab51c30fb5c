// What the gradient of attention reads of each query. TR: the result's type. TG: its gradient's. WIDE: 4 when four
// elements of either may be loaded at once, else 1.

/// A query's logarithm in powers of 2 and the sum of gradient * result, for tiles of 64 queries; the exponential
/// of any score less the logarithm is 0 for a query after the last. A warp takes a query.
KERNEL(256)
attention_numbers(const TR *result, const TG *g, const float *logarithms, float *numbers, int n, int width,
                  i64 r_b, i64 r_h, i64 r_n, i64 g_b, i64 g_h, i64 g_n) {
  const int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32, padded = (n + 63) / 64 * 64;
  if (row >= padded) return;
  const i64 plane = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  float sum = 0;
  if (row < n) {
    result += blockIdx.z * r_b + blockIdx.y * r_h + row * r_n, g += blockIdx.z * g_b + blockIdx.y * g_h + row * g_n;
#if WIDE == 4
    for (int i = lane * 4; i < width; i += 128) {
      float x[4], y[4];
      load4(x, result + i), load4(y, g + i);
      sum += x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3];
    }
#else
    for (int i = lane; i < width; i += 32) sum += load(result + i) * load(g + i);
#endif
  }
  sum = warp_sum(sum);
  if (lane == 0) {
    numbers[2 * (plane * padded + row)] = row < n ? logarithms[plane * n + row] * 1.4426950408889634f : INFINITY;
    numbers[2 * (plane * padded + row) + 1] = sum;
  }
}
