#include <math.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

// Activation of BigVGAN (Lee et al. 2023): upsample by 2 with a 12-tap filter, x + sin²(a x) / b, downsample by 2.
// Even and odd samples of the fast signal are kept apart, so that every loop runs over contiguous memory.

enum { PAD = 8 };

/// The fast signal of one row: even[m] and odd[m], m in 0..<length, from x at m-3 ... m+3 (edges repeated).
FLOW_CLONES static void upsample(float *even, float *odd, const float *padded, const float *f, long length) {
  const float *x = padded + PAD;
  for (long m = 0; m < length; m++) {
    even[m] = 2 * (f[11] * x[m - 3] + f[9] * x[m - 2] + f[7] * x[m - 1] + f[5] * x[m] + f[3] * x[m + 1] + f[1] * x[m + 2]);
    odd[m] = 2 * (f[10] * x[m - 2] + f[8] * x[m - 1] + f[6] * x[m] + f[4] * x[m + 1] + f[2] * x[m + 2] + f[0] * x[m + 3]);
  }
}

FLOW_CLONES static void activate(float *u, float a, float inverse, long length) {
  for (long m = 0; m < length; m++) {
    float s = flow_sin(a * u[m]);
    u[m] += s * s * inverse;
  }
}

FLOW_CLONES static void downsample(float *y, const float *even, const float *odd, const float *f, long length) {
  for (long t = 0; t < length; t++) {
    y[t] = f[1] * even[t - 2] + f[3] * even[t - 1] + f[5] * even[t] + f[7] * even[t + 1] + f[9] * even[t + 2] +
           f[11] * even[t + 3] + f[0] * odd[t - 3] + f[2] * odd[t - 2] + f[4] * odd[t - 1] + f[6] * odd[t] +
           f[8] * odd[t + 1] + f[10] * odd[t + 2];
  }
}

static void pad_edges(float *to, const float *x, long length, float left, float right) {
  for (long i = 0; i < PAD; i++) to[i] = left;
  if (x != NULL) memcpy(to + PAD, x, (size_t)length * sizeof(float));
  for (long i = 0; i < PAD; i++) to[PAD + length + i] = right;
}

typedef struct {
  float *y, *row_alpha, *row_beta;
  const float *x, *g, *alpha, *beta, *filter;
  long channels, length;
  int log_scale;
} snake_job;

static void rates(const snake_job *job, long row, float *a, float *b) {
  long c = row % job->channels;
  *a = job->log_scale ? expf(job->alpha[c]) : job->alpha[c];
  *b = job->log_scale ? expf(job->beta[c]) : job->beta[c];
}

static void snake_rows(void *context, long begin, long end) {
  snake_job *job = context;
  long n = job->length, wide = n + 2 * PAD;
  float *padded = flow_scratch(0, (size_t)(3 * wide)), *even = padded + wide, *odd = even + wide;
  for (long row = begin; row < end; row++) {
    const float *x = job->x + row * n;
    float a, b;
    rates(job, row, &a, &b);
    pad_edges(padded, x, n, x[0], x[n - 1]);
    upsample(even + PAD, odd + PAD, padded, job->filter, n);
    activate(even + PAD, a, 1 / (b + 1e-9f), n);
    activate(odd + PAD, a, 1 / (b + 1e-9f), n);
    pad_edges(even, NULL, n, even[PAD], odd[PAD + n - 1]);
    pad_edges(odd, NULL, n, even[PAD], odd[PAD + n - 1]);
    downsample(job->y + row * n, even + PAD, odd + PAD, job->filter, n);
  }
}

void flow_snake(int threads, float *y, const float *x, const float *alpha, const float *beta, const float *filter,
                long rows, long channels, long length, int log_scale) {
  if (length == 0) return;
  snake_job job = {.y = y, .x = x, .alpha = alpha, .beta = beta, .filter = filter, .channels = channels,
                   .length = length, .log_scale = log_scale};
  flow_parallel(threads, rows, 1 + 4096 / length, snake_rows, &job);
}

/// The transpose of downsample: the gradient of even and odd before their edges are folded, m in -PAD ..< n + PAD;
/// g is zero-padded.
FLOW_CLONES static void downsample_back(float *even, float *odd, const float *g, const float *f, long length) {
  for (long m = -3; m < length + 3; m++) {
    even[m] = f[1] * g[m + 2] + f[3] * g[m + 1] + f[5] * g[m] + f[7] * g[m - 1] + f[9] * g[m - 2] + f[11] * g[m - 3];
    odd[m] = f[0] * g[m + 3] + f[2] * g[m + 2] + f[4] * g[m + 1] + f[6] * g[m] + f[8] * g[m - 1] + f[10] * g[m - 2];
  }
}

/// g becomes the gradient of u; the sums for a and 1/b are returned in lanes.
FLOW_CLONES static void activate_back(float *g, const float *u, float a, float inverse, long length, float *sum_a,
                                      float *sum_b) {
  float lane_a[16] = {0}, lane_b[16] = {0};
  for (long m = 0; m < length; m += 16) {
    long count = length - m < 16 ? length - m : 16;
    for (int k = 0; k < count; k++) {
      float v = u[m + k], s = flow_sin(a * v), s2 = flow_sin(2 * a * v);
      lane_a[k] += g[m + k] * v * s2;
      lane_b[k] += g[m + k] * s * s;
      g[m + k] *= 1 + s2 * a * inverse;
    }
  }
  for (int k = 0; k < 16; k++) {
    *sum_a += lane_a[k];
    *sum_b += lane_b[k];
  }
}

/// The transpose of upsample onto the padded row, indices -3 ..< n + 3; gradients of even and odd are zero-padded.
FLOW_CLONES static void upsample_back(float *x, const float *even, const float *odd, const float *f, long length) {
  for (long i = -3; i < length + 3; i++) {
    x[i] = 2 * (f[11] * even[i + 3] + f[9] * even[i + 2] + f[7] * even[i + 1] + f[5] * even[i] + f[3] * even[i - 1] +
                f[1] * even[i - 2] + f[10] * odd[i + 2] + f[8] * odd[i + 1] + f[6] * odd[i] + f[4] * odd[i - 1] +
                f[2] * odd[i - 2] + f[0] * odd[i - 3]);
  }
}

static void snake_back_rows(void *context, long begin, long end) {
  snake_job *job = context;
  long n = job->length, wide = n + 2 * PAD;
  float *padded = flow_scratch(0, (size_t)(6 * wide)), *even = padded + wide, *odd = even + wide;
  float *ge = odd + wide, *go = ge + wide, *gx = go + wide;
  const float *f = job->filter;
  for (long row = begin; row < end; row++) {
    const float *x = job->x + row * n;
    float a, b, sum_a = 0, sum_b = 0;
    rates(job, row, &a, &b);
    float inverse = 1 / (b + 1e-9f);
    pad_edges(padded, x, n, x[0], x[n - 1]);
    upsample(even + PAD, odd + PAD, padded, f, n);
    pad_edges(padded, job->g + row * n, n, 0, 0);
    downsample_back(ge + PAD, go + PAD, padded + PAD, f, n);
    // Edges repeat even[0] on the left and odd[n-1] on the right.
    float left = 0, right = 0;
    for (long i = 1; i <= 3; i++) {
      left += ge[PAD - i] + go[PAD - i];
      right += ge[PAD + n - 1 + i] + go[PAD + n - 1 + i];
    }
    ge[PAD] += left;
    go[PAD + n - 1] += right;
    activate_back(ge + PAD, even + PAD, a, inverse, n, &sum_a, &sum_b);
    activate_back(go + PAD, odd + PAD, a, inverse, n, &sum_a, &sum_b);
    pad_edges(ge, NULL, n, 0, 0);
    pad_edges(go, NULL, n, 0, 0);
    upsample_back(gx + PAD, ge + PAD, go + PAD, f, n);
    left = right = 0;
    for (long i = 1; i <= 3; i++) {
      left += gx[PAD - i];
      right += gx[PAD + n - 1 + i];
    }
    memcpy(job->y + row * n, gx + PAD, (size_t)n * sizeof(float));
    job->y[row * n] += left;
    job->y[row * n + n - 1] += right;
    job->row_alpha[row] = sum_a * inverse * (job->log_scale ? a : 1);
    job->row_beta[row] = -sum_b * inverse * inverse * (job->log_scale ? b : 1);
  }
}

void flow_snake_back(int threads, float *gx, float *row_alpha, float *row_beta, const float *g, const float *x,
                     const float *alpha, const float *beta, const float *filter, long rows, long channels,
                     long length, int log_scale) {
  if (length == 0) {
    memset(row_alpha, 0, (size_t)rows * sizeof(float));
    memset(row_beta, 0, (size_t)rows * sizeof(float));
    return;
  }
  snake_job job = {gx, row_alpha, row_beta, x, g, alpha, beta, filter, channels, length, log_scale};
  flow_parallel(threads, rows, 1 + 4096 / length, snake_back_rows, &job);
}
