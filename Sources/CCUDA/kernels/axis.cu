// Extremes and running sums along an axis, seen as x [outer, count, inner].

enum { THREADS = 256, WARPS = THREADS / 32 };

/// Whether `a` at i comes before `b` at j: the larger (`sign` 1) or smaller (-1), of equals the first, NaN above all.
DEVICE bool wins(float a, i64 i, float b, i64 j, float sign) {
  if (a != a || b != b) return a != a && (b == b || i < j);
  return sign * a > sign * b || (a == b && i < j);
}

/// The extreme of x[first], x[first + step], ... below `count`, and where it is; `count` where there is none.
DEVICE void search(const float *x, i64 stride, i64 first, i64 step, i64 count, float sign, float &top, i64 &best) {
  top = 0, best = count;
  for (i64 i = first; i < count; i += step) {
    float v = x[i * stride];
    if (best == count || wins(v, i, top, best, sign)) top = v, best = i;
  }
}

/// A block per row, for what lies together. One of `values` and `places` is null.
KERNEL(256) extreme_rows(float *values, int *places, const float *x, i64 count, float sign) {
  __shared__ float tops[THREADS];
  __shared__ i64 bests[THREADS];
  float top;
  i64 best;
  search(x + blockIdx.x * count, 1, threadIdx.x, THREADS, count, sign, top, best);
  tops[threadIdx.x] = top, bests[threadIdx.x] = best;
  for (u32 half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    float other = tops[threadIdx.x + half];
    i64 place = bests[threadIdx.x + half];
    if (place == count || !wins(other, place, top, best, sign)) continue;
    tops[threadIdx.x] = top = other, bests[threadIdx.x] = best = place;
  }
  if (threadIdx.x != 0) return;
  if (values) values[blockIdx.x] = top;
  else places[blockIdx.x] = (int)best;
}

/// A thread per result.
KERNEL(256) extreme_columns(float *values, int *places, const float *x, i64 count, i64 inner, float sign, i64 results) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= results) return;
  float top;
  i64 best;
  search(x + i / inner * count * inner + i % inner, inner, 0, 1, count, sign, top, best);
  if (values) values[i] = top;
  else places[i] = (int)best;
}

/// Sums in double precision, as on the CPU; a thread per column. The result may lie in the input's place.
KERNEL(256) cumulative_columns(float *y, const float *x, i64 count, i64 inner, int reverse, i64 results) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= results) return;
  i64 at = i / inner * count * inner + i % inner;
  double sum = 0;
  for (i64 k = 0; k < count; k++) {
    i64 place = at + (reverse ? count - 1 - k : k) * inner;
    sum += (double)x[place];
    y[place] = (float)sum;
  }
}

/// A block per row: tiles of an element per thread, scanned by doubling distances (Hillis & Steele 1986).
KERNEL(256) cumulative_rows(float *y, const float *x, i64 count, int reverse) {
  __shared__ double sums[2][THREADS];
  x += blockIdx.x * count, y += blockIdx.x * count;
  double before = 0;
  for (i64 start = 0; start < count; start += THREADS) {
    i64 k = start + threadIdx.x, place = reverse ? count - 1 - k : k;
    int now = 0;
    // What the last tile's end was read from is written no sooner than all have read it.
    __syncthreads();
    sums[0][threadIdx.x] = k < count ? (double)x[place] : 0;
    __syncthreads();
    for (u32 distance = 1; distance < THREADS; distance *= 2) {
      double sum = sums[now][threadIdx.x];
      if (threadIdx.x >= distance) sum += sums[now][threadIdx.x - distance];
      now ^= 1;
      sums[now][threadIdx.x] = sum;
      __syncthreads();
    }
    if (k < count) y[place] = (float)(before + sums[now][threadIdx.x]);
    before += sums[now][THREADS - 1];
  }
}
