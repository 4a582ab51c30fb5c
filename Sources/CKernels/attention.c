#include "COpenBLAS.h"
#include <math.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

// Rows of queries in tiles; the scores of a tile lie in scratch memory only. Keys outside the span that any row of the
// tile may attend to are not computed, which is most of them under block masks.

enum { ROWS = 64, LANES = 16 };

typedef struct {
  flow_attention_size s;
  float *y, *logs, *dq, *dk, *dv;
  const float *q, *k, *v, *mask, *g, *result;
} attention_job;

/// p = exp(scores - their logarithm) where mask; returns the logarithm of the sum of exponentials. A score that isn't a
/// number makes the row so.
FLOW_CLONES static float softmax_row(float *p, const float *mask, long count) {
  float top[LANES], sum[LANES];
  int undefined = 0;
  long whole = count / LANES * LANES;
  for (int l = 0; l < LANES; l++) top[l] = -1e30f, sum[l] = 0;
  for (long j = 0; j < whole; j += LANES)
    for (int l = 0; l < LANES; l++) {
      float s = mask[j + l] != 0 ? p[j + l] : -1e30f;
      p[j + l] = s;
      undefined |= s != s;
      top[l] = s > top[l] ? s : top[l];
    }
  for (long j = whole; j < count; j++) {
    p[j] = mask[j] != 0 ? p[j] : -1e30f;
    undefined |= p[j] != p[j];
    top[0] = p[j] > top[0] ? p[j] : top[0];
  }
  float most = top[0];
  for (int l = 1; l < LANES; l++) most = top[l] > most ? top[l] : most;
  if (most <= -1e30f && !undefined) {
    memset(p, 0, (size_t)count * sizeof(float));
    return 0;
  }
  for (long j = 0; j < whole; j += LANES)
    for (int l = 0; l < LANES; l++) {
      float e = p[j + l] <= -1e30f ? 0.0f : flow_exp(p[j + l] - most);
      p[j + l] = e;
      sum[l] += e;
    }
  for (long j = whole; j < count; j++) {
    p[j] = p[j] <= -1e30f ? 0.0f : flow_exp(p[j] - most);
    sum[0] += p[j];
  }
  float total = sum[0];
  for (int l = 1; l < LANES; l++) total += sum[l];
  float factor = 1.0f / total;
  for (long j = 0; j < count; j++) p[j] *= factor;
  return most + logf(total);
}

/// p = exp(p - log) where mask, else 0.
FLOW_CLONES static void weights_row(float *p, const float *mask, float log, long count) {
  for (long j = 0; j < count; j++) {
    float e = flow_exp(p[j] - log);
    p[j] = mask[j] != 0 ? e : 0.0f;
  }
}

/// d = p (d - mean) scale.
FLOW_CLONES static void flow_row(float *d, const float *p, float mean, float scale, long count) {
  for (long j = 0; j < count; j++) d[j] = p[j] * (d[j] - mean) * scale;
}

/// The keys that some of the rows may attend to: [*begin, *end), empty as 0, 0.
static void span(const float *mask, long rows, long count, long *begin, long *end) {
  long first = count, last = 0;
  for (long i = 0; i < rows; i++) {
    const float *row = mask + i * count;
    long j = 0;
    while (j < first && row[j] == 0) j++;
    if (j < first) first = j;
    j = count;
    while (j > last && row[j - 1] == 0) j--;
    if (j > last) last = j;
  }
  *begin = first < last ? first : 0;
  *end = first < last ? last : 0;
}

static const float *mask_of(const attention_job *job, long head) {
  flow_attention_size s = job->s;
  long b = s.mask_batch == 1 ? 0 : head / s.heads, h = s.mask_heads == 1 ? 0 : head % s.heads;
  return job->mask + (b * s.mask_heads + h) * s.queries * s.keys;
}

static void forward_body(void *context, long begin, long end) {
  attention_job *job = context;
  flow_attention_size s = job->s;
  long tiles = (s.queries + ROWS - 1) / ROWS;
  int d = (int)s.width;
  float *p = flow_scratch(0, (size_t)(ROWS * s.keys));
  for (long unit = begin; unit < end; unit++) {
    long head = unit / tiles, row = unit % tiles * ROWS;
    long rows = s.queries - row < ROWS ? s.queries - row : ROWS, first, last;
    const float *mask = mask_of(job, head) + row * s.keys;
    long at = head * s.queries + row;
    span(mask, rows, s.keys, &first, &last);
    if (first == last) {
      memset(job->y + at * d, 0, (size_t)(rows * d) * sizeof(float));
      memset(job->logs + at, 0, (size_t)rows * sizeof(float));
      continue;
    }
    int keys = (int)(last - first);
    const float *k = job->k + (head * s.keys + first) * d, *v = job->v + (head * s.keys + first) * d;
    flow_blas_sgemm(101, 111, 112, (int)rows, keys, d, s.scale, job->q + at * d, d, k, d, 0, p, keys);
    for (long i = 0; i < rows; i++) job->logs[at + i] = softmax_row(p + i * keys, mask + i * s.keys + first, keys);
    flow_blas_sgemm(101, 111, 111, (int)rows, d, keys, 1, p, keys, v, d, 0, job->y + at * d, d);
  }
}

static void backward_body(void *context, long begin, long end) {
  attention_job *job = context;
  flow_attention_size s = job->s;
  int d = (int)s.width;
  float *p = flow_scratch(0, (size_t)(ROWS * s.keys)), *f = flow_scratch(1, (size_t)(ROWS * s.keys));
  for (long head = begin; head < end; head++) {
    memset(job->dk + head * s.keys * d, 0, (size_t)(s.keys * d) * sizeof(float));
    memset(job->dv + head * s.keys * d, 0, (size_t)(s.keys * d) * sizeof(float));
    for (long row = 0; row < s.queries; row += ROWS) {
      long rows = s.queries - row < ROWS ? s.queries - row : ROWS, first, last;
      const float *mask = mask_of(job, head) + row * s.keys;
      long at = head * s.queries + row;
      span(mask, rows, s.keys, &first, &last);
      if (first == last) {
        memset(job->dq + at * d, 0, (size_t)(rows * d) * sizeof(float));
        continue;
      }
      int keys = (int)(last - first), m = (int)rows;
      long from = (head * s.keys + first) * d;
      const float *q = job->q + at * d, *g = job->g + at * d, *y = job->result + at * d;
      flow_blas_sgemm(101, 111, 112, m, keys, d, s.scale, q, d, job->k + from, d, 0, p, keys);
      for (long i = 0; i < rows; i++) weights_row(p + i * keys, mask + i * s.keys + first, job->logs[at + i], keys);
      flow_blas_sgemm(101, 112, 111, keys, d, m, 1, p, keys, g, d, 1, job->dv + from, d);
      flow_blas_sgemm(101, 111, 112, m, keys, d, 1, g, d, job->v + from, d, 0, f, keys);
      for (long i = 0; i < rows; i++) {
        float mean = 0;
        for (int c = 0; c < d; c++) mean += g[i * d + c] * y[i * d + c];
        flow_row(f + i * keys, p + i * keys, mean, s.scale, keys);
      }
      flow_blas_sgemm(101, 111, 111, m, d, keys, 1, f, keys, job->k + from, d, 0, job->dq + at * d, d);
      flow_blas_sgemm(101, 112, 111, keys, d, m, 1, f, keys, q, d, 1, job->dk + from, d);
    }
  }
}

void flow_attention(int threads, flow_attention_size s, float *y, float *logs, const float *q, const float *k,
                    const float *v, const float *mask) {
  attention_job job = {.s = s, .y = y, .logs = logs, .q = q, .k = k, .v = v, .mask = mask};
  flow_parallel(threads, s.batch * s.heads * ((s.queries + ROWS - 1) / ROWS), 1, forward_body, &job);
}

void flow_attention_back(int threads, flow_attention_size s, float *dq, float *dk, float *dv, const float *q,
                         const float *k, const float *v, const float *mask, const float *result, const float *logs,
                         const float *g) {
  attention_job job = {.s = s,   .logs = (float *)logs, .dq = dq, .dk = dk, .dv = dv,        .q = q,
                       .k = k,   .v = v,                .mask = mask, .g = g, .result = result};
  flow_parallel(threads, s.batch * s.heads, 1, backward_body, &job);
}
