// Adds up what the splits of a convolution gave, one after another. Defines: T2 (elements of the result).

/// y [count] of parts [splits, count].
KERNEL(256) sum_splits(T2 *y, const float *parts, i64 count, int splits) {
  i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
#pragma unroll 8
  for (int k = 0; k < splits; k++) sum += parts[k * count + i];
  store(y + i, sum);
}

/// y [outputs, channels, taps] of parts [splits, outputs, taps, whole], the channels beyond the last left out.
KERNEL(256) sum_taps(T2 *y, const float *parts, int outputs, int channels, int whole, int taps, int splits) {
  i64 count = (i64)outputs * taps * whole, i = (i64)blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  int c = (int)(i % whole), tap = (int)(i / whole % taps);
  if (c >= channels) return;
  float sum = 0;
#pragma unroll 8
  for (int k = 0; k < splits; k++) sum += parts[k * count + i];
  store(y + (i / whole / taps * channels + c) * taps + tap, sum);
}
