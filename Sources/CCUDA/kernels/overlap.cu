// Elements added up where they came from; each result is summed by one thread in a fixed order. T0 is the input's type,
// T1 the result's. I is an integer that holds every index of the result and of a frame's start.

enum { THREADS = 256 };

/// Frames of `window`, `frames` to each row of `length`, `hop` apart: the transpose of `frame`.
KERNEL(256) overlap_add(T1 *y, const T0 *x, i64 length, i64 frames, i64 window, i64 hop, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  i64 row = (I)i / (I)length, t = i - row * length;
  i64 first = t < window ? 0 : (I)(t - window) / (I)hop + 1, last = (I)t / (I)hop;
  if (last >= frames) last = frames - 1;
  float sum = 0;
  const T0 *from = x + (row * frames + first) * window + t - first * hop;
#pragma unroll 4
  for (i64 f = first; f <= last; f++, from += window - hop) sum += load(from);
  store(y + i, sum);
}

/// The transpose of `pad` on the last axis; `mode` as there.
KERNEL(256) unpad(T1 *y, const T0 *g, i64 length, i64 before, i64 after, int mode, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  i64 row = (I)i / (I)length, t = i - row * length;
  // Position 0 is the first that isn't of the pad in front.
  g += row * (before + length + after) + before;
  float sum = load(g + t);
  if (mode == 1) {
    if (t == 0)
      for (i64 j = -before; j < 0; j++) sum += load(g + j);
    if (t == length - 1)
      for (i64 j = length; j < length + after; j++) sum += load(g + j);
  } else if (mode == 2) {
    i64 mirrored = 2 * (length - 1) - t;
    if (t > 0 && t <= before) sum += load(g - t);
    if (t < length - 1 && mirrored < length + after) sum += load(g + mirrored);
  } else if (mode == 3) {
    if (length - t <= before) sum += load(g + t - length);
    if (t < after) sum += load(g + t + length);
  }
  store(y + i, sum);
}
