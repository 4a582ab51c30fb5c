// Elements at indices along an axis. An index outside it gives 0, or is left out.

enum { THREADS = 256 };

KERNEL(256) one_hot(float *y, const int *index, i64 classes, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i < count) y[i] = index[i / classes] == i % classes ? 1.0f : 0.0f;
}

/// y and index [outer, taken, inner] from x [outer, length, inner].
KERNEL(256) take_along(float *y, const float *x, const int *index, i64 length, i64 taken, i64 inner, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  i64 from = index[i], outer = i / inner / taken;
  y[i] = from >= 0 && from < length ? x[(outer * length + from) * inner + i % inner] : 0.0f;
}

/// y [outer, length, inner], each element the sum of those of x [outer, taken, inner] whose index is its place; a warp per
/// element.
KERNEL(256) put_along(float *y, const float *x, const int *index, i64 length, i64 taken, i64 inner, i64 count) {
  i64 i = (i64)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  if (i >= count) return;
  i64 place = i / inner % length, first = i / inner / length * taken * inner + i % inner;
  float sum = 0;
  for (i64 k = threadIdx.x % 32; k < taken; k += 32)
    if (index[first + k * inner] == place) sum += x[first + k * inner];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) y[i] = sum;
}
