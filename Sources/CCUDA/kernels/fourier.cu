// Real discrete Fourier transforms of frames. Powers of two: Stockham's autosort algorithm in shared memory, radix 4 with
// one radix-2 pass where needed, two real frames as the real and the imaginary part of one complex transform. Other
// lengths: by the definition. `turns` holds cos and -sin of 2 pi k / size, bits of float32, the cosine in the lower half.

enum { THREADS = 256 };

DEVICE void turn(const u64 *turns, i64 k, float &c, float &s) {
  u64 word = turns[k];
  c = __uint_as_float((u32)word), s = __uint_as_float((u32)(word >> 32));
}

/// Transforms 2^more sequences of 2^log that lie one after another. The halves of the memory are used in turn; gives the
/// one with the result. All of the block's threads call it, with the input behind a barrier; a barrier ends it.
DEVICE float *transform(float *from, float *to, int log, int more, const u64 *turns) {
  int size = 1 << log, total = size << more, stride = 0;
  for (int left = log; left > 0;) {
    if (left >= 2) {
      int quarter = size / 4, mask = (1 << stride) - 1;
      for (int i = threadIdx.x; i < quarter << more; i += THREADS) {
        int base = i >> (log - 2) << log, b = i & (quarter - 1), q = b & mask, p = b >> stride;
        const float *x = from + base + b;
        float r0 = x[0], r1 = x[quarter], r2 = x[2 * quarter], r3 = x[3 * quarter];
        x += total;
        float i0 = x[0], i1 = x[quarter], i2 = x[2 * quarter], i3 = x[3 * quarter];
        float ur = r0 + r2, ui = i0 + i2, vr = r0 - r2, vi = i0 - i2, wr = r1 + r3, wi = i1 + i3, zr = r1 - r3,
              zi = i1 - i3;
        float er = vr + zi, ei = vi - zr, fr = ur - wr, fi = ui - wi, gr = vr - zi, gi = vi + zr;
        float c1, s1, c2, s2, c3, s3;
        turn(turns, p << stride, c1, s1);
        turn(turns, 2 * p << stride, c2, s2);
        turn(turns, 3 * p << stride, c3, s3);
        float *y = to + base + q + (4 * p << stride);
        int s = 1 << stride;
        y[0] = ur + wr, y[total] = ui + wi;
        y[s] = er * c1 - ei * s1, y[total + s] = er * s1 + ei * c1;
        y[2 * s] = fr * c2 - fi * s2, y[total + 2 * s] = fr * s2 + fi * c2;
        y[3 * s] = gr * c3 - gi * s3, y[total + 3 * s] = gr * s3 + gi * c3;
      }
      left -= 2, stride += 2;
    } else {
      int half = size / 2;
      for (int i = threadIdx.x; i < half << more; i += THREADS) {
        int base = (i >> (log - 1) << log) + (i & (half - 1));
        for (int part = 0; part <= total; part += total) {
          float a = from[base + part], b = from[base + part + half];
          to[base + part] = a + b, to[base + part + half] = a - b;
        }
      }
      left -= 1;
    }
    __syncthreads();
    float *other = from;
    from = to, to = other;
  }
  return from;
}

/// Frames of rows of `length`, `frames` to a row; a block does 2^more pairs of the `count` frames, fewer than 2^31.
KERNEL(256)
fourier(float *re, float *im, const float *x, const float *window, const u64 *turns, i64 length, i64 frames, i64 count,
        i64 hop, int log, int more) {
  SHARED_MEMORY(memory);
  int size = 1 << log, total = size << more;
  float *first = (float *)memory, *second = first + 2 * total;
  for (int i = threadIdx.x; i < 2 * total; i += THREADS) {
    // The real part of a pair is its first frame.
    int part = i >> (log + more), pair = (i & (total - 1)) >> log, t = i & (size - 1);
    u32 frame = 2 * ((blockIdx.x << more) + pair) + part, row = frame / (u32)frames;
    float value = 0;
    if (frame < count) value = x[row * length + (frame - row * (u32)frames) * hop + t] * window[t];
    first[i] = value;
  }
  __syncthreads();
  const float *found = transform(first, second, log, more, turns);
  int bins = size / 2 + 1;
  for (int i = threadIdx.x; i < 2 * bins << more; i += THREADS) {
    int place = i / bins, k = i - place * bins, pair = place / 2, part = place % 2, m = (size - k) & (size - 1);
    i64 frame = 2 * (((i64)blockIdx.x << more) + pair) + part;
    if (frame >= count) continue;
    const float *r = found + pair * size, *q = r + total;
    re[frame * bins + k] = 0.5f * (part ? q[k] + q[m] : r[k] + r[m]);
    im[frame * bins + k] = 0.5f * (part ? r[m] - r[k] : q[k] - q[m]);
  }
}

/// Frames [count, size], before they are added up.
KERNEL(256)
fourier_back(float *y, const float *re, const float *im, const float *window, const u64 *turns, i64 count, int log,
             int more) {
  SHARED_MEMORY(memory);
  int size = 1 << log, total = size << more, bins = size / 2 + 1;
  float *first = (float *)memory, *second = first + 2 * total;
  for (int i = threadIdx.x; i < bins << more; i += THREADS) {
    int pair = i / bins, k = i - pair * bins, m = (size - k) & (size - 1);
    i64 a = 2 * (((i64)blockIdx.x << more) + pair), b = a + 1;
    bool alone = m == k;
    float share = alone ? 1.0f : 0.5f;
    float ar = a < count ? share * re[a * bins + k] : 0, ai = a < count && !alone ? share * im[a * bins + k] : 0;
    float br = b < count ? share * re[b * bins + k] : 0, bi = b < count && !alone ? share * im[b * bins + k] : 0;
    // With the parts swapped, the forward transform is the inverse.
    float *r = first + pair * size, *q = r + total;
    q[k] = ar - bi, r[k] = ai + br;
    if (!alone) q[m] = ar + bi, r[m] = br - ai;
  }
  __syncthreads();
  const float *found = transform(first, second, log, more, turns);
  for (int i = threadIdx.x; i < 2 * total; i += THREADS) {
    int part = i >> (log + more), pair = (i & (total - 1)) >> log, t = i & (size - 1);
    i64 frame = 2 * (((i64)blockIdx.x << more) + pair) + part;
    if (frame < count) y[frame * size + t] = found[pair * size + t + (part ? 0 : total)] * window[t];
  }
}

/// By the definition: a block per frame and 256 bins.
KERNEL(256)
fourier_direct(float *re, float *im, const float *x, const float *window, const u64 *turns, i64 length, i64 frames,
               i64 hop, i64 size) {
  __shared__ float kept[THREADS];
  i64 bins = size / 2 + 1, across = (bins + THREADS - 1) / THREADS;
  i64 frame = blockIdx.x / across, k = blockIdx.x % across * THREADS + threadIdx.x;
  x += frame / frames * length + frame % frames * hop;
  float c = 0, s = 0;
  i64 place = 0;
  for (i64 start = 0; start < size; start += THREADS) {
    i64 t = start + threadIdx.x;
    __syncthreads();
    kept[threadIdx.x] = t < size ? x[t] * window[t] : 0;
    __syncthreads();
    if (k >= bins) continue;
    for (i64 j = 0; j < THREADS && start + j < size; j++) {
      float cosine, sine;
      turn(turns, place, cosine, sine);
      c += kept[j] * cosine, s += kept[j] * sine;
      place += k;
      if (place >= size) place -= size;
    }
  }
  if (k < bins) re[frame * bins + k] = c, im[frame * bins + k] = s;
}

/// By the definition: a block per frame and 256 samples.
KERNEL(256)
fourier_back_direct(float *y, const float *re, const float *im, const float *window, const u64 *turns, i64 size) {
  __shared__ float kept[2][THREADS];
  i64 bins = size / 2 + 1, across = (size + THREADS - 1) / THREADS;
  i64 frame = blockIdx.x / across, t = blockIdx.x % across * THREADS + threadIdx.x;
  float sum = 0;
  i64 place = 0;
  for (i64 start = 0; start < bins; start += THREADS) {
    i64 k = start + threadIdx.x;
    __syncthreads();
    kept[0][threadIdx.x] = k < bins ? re[frame * bins + k] : 0;
    kept[1][threadIdx.x] = k < bins ? im[frame * bins + k] : 0;
    __syncthreads();
    if (t >= size) continue;
    for (i64 j = 0; j < THREADS && start + j < bins; j++) {
      float cosine, sine;
      turn(turns, place, cosine, sine);
      sum += kept[0][j] * cosine + kept[1][j] * sine;
      place += t;
      if (place >= size) place -= size;
    }
  }
  if (t < size) y[frame * size + t] = sum * window[t];
}
