// The alias-free snake activation of BigVGAN (Lee et al. 2023) and its gradients in one pass: a thread makes 16
// neighbouring samples, with the double-rate samples that they need in registers. Defines: T0, T1, T2 (elements of the
// inputs in order, then of the result; forward: T0 and T2), VECTORS (rows begin at multiples of 16 bytes and are of
// whole eights), PRECISE (the sine's argument is reduced in two parts, as float32's precision wants).

enum { RUN = 16, WINDOW = RUN + 10, FAST = 2 * RUN + 10 };  // samples, samples seen, double-rate samples

/// The low-pass filter, and twice it for upsampling.
struct Filter {
  float down[12], up[12];
};

DEVICE void load8(float *v, const float *p) {
  float low[4], high[4];
  load4(low, p), load4(high, p + 4);
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] = low[i], v[i + 4] = high[i];
}
DEVICE void load8(float *v, const bf16 *p) {
  Quad q = *(const Quad *)p;
  v[0] = low_bf16(q.x), v[1] = high_bf16(q.x), v[2] = low_bf16(q.y), v[3] = high_bf16(q.y);
  v[4] = low_bf16(q.z), v[5] = high_bf16(q.z), v[6] = low_bf16(q.w), v[7] = high_bf16(q.w);
}
DEVICE void store8(float *p, const float *v) {
  float low[4] = {v[0], v[1], v[2], v[3]}, high[4] = {v[4], v[5], v[6], v[7]};
  store4(p, low), store4(p + 4, high);
}
DEVICE void store8(bf16 *p, const float *v) {
  Quad q = {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
  *(Quad *)p = q;
}

/// Samples t-5 .. t+20 of a row; outside, its nearest sample or zero.
template <bool edge, bool repeat, class T> DEVICE void window(float (&w)[WINDOW], const T *row, int t, int length) {
  if constexpr (VECTORS && !edge) {
    float all[RUN + 16];
#pragma unroll
    for (int i = 0; i < RUN + 16; i += 8) load8(all + i, row + t - 8 + i);
#pragma unroll
    for (int i = 0; i < WINDOW; i++) w[i] = all[i + 3];
  } else {
#pragma unroll
    for (int i = 0; i < WINDOW; i++) {
      int from = t - 5 + i;
      if constexpr (!edge)
        w[i] = load(row + from);
      else if constexpr (repeat)
        w[i] = load(row + (from < 0 ? 0 : from < length ? from : length - 1));
      else
        w[i] = from >= 0 && from < length ? load(row + from) : 0.0f;
    }
  }
}

/// Double-rate sample 2t-5+j of what the window shows.
DEVICE float fast(const float (&w)[WINDOW], const float (&f)[12], int j) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 6; i++) sum += w[j / 2 + i] * f[10 + j % 2 - 2 * i];
  return sum;
}

/// z less a multiple of pi, where neither sin² nor sin of the double differs.
DEVICE float reduced(float z) {
#if PRECISE
  float turns = rintf(z * 0.31830988618f);
  return fmaf(-turns, -8.7422777e-8f, fmaf(-turns, 3.14159274f, z));
#else
  return z;
#endif
}

template <class T> DEVICE void put(T *row, const float (&v)[RUN], int t, int length) {
  if (VECTORS && t + RUN <= length) {
#pragma unroll
    for (int i = 0; i < RUN; i += 8) store8(row + t + i, v + i);
    return;
  }
#pragma unroll
  for (int i = 0; i < RUN; i++)
    if (t + i < length) store(row + t + i, v[i]);
}

/// Whether what a run needs is all inside the row.
DEVICE bool is_inside(int t, int length) { return t >= 8 && t + RUN + 8 <= length; }

template <bool edge>
DEVICE void forward(T2 *y, const T0 *x, const Filter &f, float a, float inverse, int t, int length) {
  float w[WINDOW], u[FAST], v[RUN];
  window<edge, true>(w, x, t, length);
#pragma unroll
  for (int j = 0; j < FAST; j++) {
    u[j] = fast(w, f.up, j);
    float s = __sinf(reduced(a * u[j]));
    u[j] += s * s * inverse;
    // Behind the last sample it is repeated.
    if (edge && j > 0 && 2 * t - 5 + j >= 2 * length) u[j] = u[j - 1];
  }
  if (edge && t == 0) u[0] = u[1] = u[2] = u[3] = u[4] = u[5];
#pragma unroll
  for (int i = 0; i < RUN; i++) {
    v[i] = 0;
#pragma unroll
    for (int k = 0; k < 12; k++) v[i] += f.down[k] * u[2 * i + k];
  }
  put(y, v, t, length);
}

#define FILTER_ARGUMENTS                                                                                             \
  float f0, float f1, float f2, float f3, float f4, float f5, float f6, float f7, float f8, float f9, float f10,     \
      float f11
#define FILTER                                                                                                       \
  {{f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11},                                                               \
   {2 * f0, 2 * f1, 2 * f2, 2 * f3, 2 * f4, 2 * f5, 2 * f6, 2 * f7, 2 * f8, 2 * f9, 2 * f10, 2 * f11}}

#define RATES                                                                                       \
  float a = alpha[row % channels], b = beta[row % channels];                                        \
  if (log_scale) a = expf(a), b = expf(b);                                                          \
  const float inverse = 1 / (b + 1e-9f)

/// A thread per run of a row.
KERNEL(128) snake(T2 *y, const T0 *x, const float *alpha, const float *beta, i64 rows, int channels, int length,
                  int log_scale, FILTER_ARGUMENTS) {
  i64 id = (i64)blockIdx.x * 128 + threadIdx.x;
  int runs = (length + RUN - 1) / RUN;
  i64 row = id / runs;
  int t = (int)(id % runs) * RUN;
  if (row >= rows) return;
  Filter f = FILTER;
  RATES;
  x += row * length, y += row * length;
  if (is_inside(t, length))
    forward<false>(y, x, f, a, inverse, t, length);
  else
    forward<true>(y, x, f, a, inverse, t, length);
}

template <bool edge>
DEVICE void backward(T2 *gx, const T0 *g, const T1 *x, const Filter &f, float a, float inverse, int t, int length,
                     float &sum_a, float &sum_b) {
  float w[WINDOW], flow[WINDOW], h[FAST], v[RUN];
  window<edge, true>(w, x, t, length);
  window<edge, false>(flow, g, t, length);
  float first = 0, last = 0;
  if (edge) {
    // What the repeated samples at both ends give to those they repeat.
    const float(&d)[12] = f.down;
    float one = length > 1, two = length > 2;
    first = load(g) * (d[0] + d[1] + d[2] + d[3] + d[4]) + one * load(g + (length > 1)) * (d[0] + d[1] + d[2]) +
            two * load(g + (length > 2 ? 2 : 0)) * d[0];
    last = load(g + length - 1) * (d[7] + d[8] + d[9] + d[10] + d[11]) +
           one * load(g + (length > 1 ? length - 2 : 0)) * (d[9] + d[10] + d[11]) +
           two * load(g + (length > 2 ? length - 3 : 0)) * d[11];
  }
#pragma unroll
  for (int j = 0; j < FAST; j++) {
    int m = 2 * t - 5 + j;
    float u = fast(w, f.up, j), flown = fast(flow, f.down, j), z = reduced(a * u);
    if (edge) {
      if (m == 0) flown += first;
      if (m == 2 * length - 1) flown += last;
      if (m < 0 || m >= 2 * length) flown = 0;
    }
    float s = __sinf(z), twice = 2 * s * __cosf(z);
    if (j >= 5 && j < 5 + 2 * RUN) sum_a += flown * u * twice, sum_b += flown * s * s;
    h[j] = flown * fmaf(twice, a * inverse, 1.0f);
  }
#pragma unroll
  for (int i = 0; i < RUN; i++) {
    v[i] = 0;
#pragma unroll
    for (int k = 0; k < 12; k++) v[i] += f.up[k] * h[2 * i + k];
  }
  if (edge) {
    const float(&u)[12] = f.up;
    if (t == 0)
      v[0] += h[5] * (u[7] + u[9] + u[11]) + h[6] * (u[8] + u[10]) + h[7] * (u[9] + u[11]) + h[8] * u[10] + h[9] * u[11];
#pragma unroll
    for (int i = 0; i < RUN; i++) {
      if (t + i != length - 1) continue;
      v[i] += h[2 * i + 6] * (u[4] + u[2] + u[0]) + h[2 * i + 5] * (u[3] + u[1]) + h[2 * i + 4] * (u[2] + u[0]) +
              h[2 * i + 3] * u[1] + h[2 * i + 2] * u[0];
    }
  }
  put(gx, v, t, length);
}

/// A block per stretch of a row, `stretches` of them; `sums` [rows, stretches, 2] are those of alpha and beta.
KERNEL(128) snake_back(T2 *gx, float *sums, const T0 *g, const T1 *x, const float *alpha, const float *beta,
                       int channels, int length, int stretches, int log_scale, FILTER_ARGUMENTS) {
  __shared__ float scratch[4];
  i64 row = blockIdx.x / stretches;
  int t = ((int)(blockIdx.x % stretches) * blockDim.x + threadIdx.x) * RUN;
  Filter f = FILTER;
  float sum_a = 0, sum_b = 0;
  RATES;
  x += row * length, g += row * length, gx += row * length;
  if (is_inside(t, length))
    backward<false>(gx, g, x, f, a, inverse, t, length, sum_a, sum_b);
  else if (t < length)
    backward<true>(gx, g, x, f, a, inverse, t, length, sum_a, sum_b);
  sum_a = block_sum(sum_a, scratch);
  sum_b = block_sum(sum_b, scratch);
  if (threadIdx.x == 0) sums[2 * (i64)blockIdx.x] = sum_a, sums[2 * (i64)blockIdx.x + 1] = sum_b;
}

/// A warp per row adds up its stretches.
KERNEL(128) snake_sum(float *row_alpha, float *row_beta, const float *sums, const float *alpha, const float *beta,
                      i64 rows, int channels, int stretches, int log_scale) {
  i64 row = (i64)blockIdx.x * 4 + threadIdx.x / 32;
  if (row >= rows) return;
  float sum_a = 0, sum_b = 0;
  for (int i = threadIdx.x % 32; i < stretches; i += 32) {
    sum_a += sums[2 * (row * stretches + i)];
    sum_b += sums[2 * (row * stretches + i) + 1];
  }
  sum_a = warp_sum(sum_a), sum_b = warp_sum(sum_b);
  if (threadIdx.x % 32 != 0) return;
  RATES;
  row_alpha[row] = sum_a * inverse * (log_scale ? a : 1.0f);
  row_beta[row] = -sum_b * inverse * inverse * (log_scale ? b : 1.0f);
}
