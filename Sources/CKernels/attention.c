#include <math.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

// Rows of queries in tiles; the scores of a tile lie in scratch memory only. Keys outside the span that any row of the
// tile may attend to are not computed, which is most of them under block masks.

enum { ROWS = 64, PANEL = 64, LANES = 16 };

typedef struct {
  long begin, end;
} key_span;

typedef struct {
  flow_attention_size s;
  float *y, *logs, *dq, *dk, *dv;
  const float *q, *k, *v, *g, *result;
  const uint8_t *mask;
  /// Transposed keys of all heads, then (backward) values.
  float *packed;
  /// Per mask and tile of rows.
  key_span *spans;
  long tiles;
} attention_job;

/// p = exp(scores - their logarithm) where mask; returns the logarithm of the sum of exponentials. A score that isn't a
/// number makes the row so.
FLOW_CLONES static float softmax_row(float *p, const uint8_t *mask, long count) {
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
FLOW_CLONES static void weights_row(float *p, const uint8_t *mask, float log, long count) {
  for (long j = 0; j < count; j++) {
    float e = flow_exp(p[j] - log);
    p[j] = mask[j] != 0 ? e : 0.0f;
  }
}

/// d = p (d - g y) scale, where g y is the product of two rows of `width`.
FLOW_CLONES static void flow_row(float *d, const float *p, const float *g, const float *y, long width, float scale,
                                 long count) {
  float lane[LANES] = {0}, mean = 0;
  long i = 0;
  for (; i + LANES <= width; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += g[i + l] * y[i + l];
  for (; i < width; i++) lane[0] += g[i] * y[i];
  for (int l = 0; l < LANES; l++) mean += lane[l];
  for (long j = 0; j < count; j++) d[j] = p[j] * (d[j] - mean) * scale;
}

/// The keys that some of the rows may attend to: [begin, end), begin a multiple of PANEL; empty as 0, 0.
static key_span find_span(const uint8_t *mask, long rows, long count) {
  long first = count, last = 0;
  for (long i = 0; i < rows; i++) {
    const uint8_t *row = mask + i * count;
    long j = 0;
    while (j < first && row[j] == 0) j++;
    if (j < first) first = j;
    j = count;
    while (j > last && row[j - 1] == 0) j--;
    if (j > last) last = j;
  }
  return first < last ? (key_span){first / PANEL * PANEL, last} : (key_span){0, 0};
}

static long mask_number(const attention_job *job, long head) {
  flow_attention_size s = job->s;
  long b = s.mask_batch == 1 ? 0 : head / s.heads, h = s.mask_heads == 1 ? 0 : head % s.heads;
  return b * s.mask_heads + h;
}

static void span_body(void *context, long begin, long end) {
  attention_job *job = context;
  flow_attention_size s = job->s;
  for (long unit = begin; unit < end; unit++) {
    long row = unit % job->tiles * ROWS, rows = s.queries - row < ROWS ? s.queries - row : ROWS;
    job->spans[unit] = find_span(job->mask + (unit / job->tiles * s.queries + row) * s.keys, rows, s.keys);
  }
}

/// Spans of all masks' tiles; heads that share a mask share them.
static void find_spans(int threads, attention_job *job) {
  job->tiles = (job->s.queries + ROWS - 1) / ROWS;
  long count = job->s.mask_batch * job->s.mask_heads * job->tiles;
  job->spans = (key_span *)flow_scratch(2, (size_t)count * sizeof(key_span) / sizeof(float));
  flow_parallel(threads, count, 1, span_body, job);
}

/// x [keys, width] transposed in panels [keys / PANEL, width, PANEL], zeros behind the last key.
static void pack(float *to, const float *x, long keys, long width) {
  for (long start = 0; start < keys; start += PANEL) {
    long count = keys - start < PANEL ? keys - start : PANEL;
    for (long c = 0; c < width; c++) {
      float *line = to + (start / PANEL * width + c) * PANEL;
      for (long j = 0; j < count; j++) line[j] = x[(start + j) * width + c];
      for (long j = count; j < PANEL; j++) line[j] = 0;
    }
  }
}

static long panels(flow_attention_size s) { return (s.keys + PANEL - 1) / PANEL; }

static void pack_body(void *context, long begin, long end) {
  attention_job *job = context;
  flow_attention_size s = job->s;
  long size = panels(s) * PANEL * s.width, heads = s.batch * s.heads;
  for (long unit = begin; unit < end; unit++)
    pack(job->packed + unit * size, (unit < heads ? job->k : job->v) + unit % heads * s.keys * s.width, s.keys,
         s.width);
}

/// p [rows, span] = scale * x packedᵀ for the panels of `span`.
static void scores(float *p, long stride, const float *x, const float *packed, key_span span, long rows, long width,
                   float scale) {
  for (long start = span.begin; start < span.end; start += PANEL) {
    flow_product product = {rows, PANEL, width, x, width, 1, packed + start * width, PANEL, p + start - span.begin,
                            stride, scale, 0};
    flow_small_product(&product);
  }
}

static void forward_body(void *context, long begin, long end) {
  attention_job *job = context;
  flow_attention_size s = job->s;
  long d = s.width, stride = panels(s) * PANEL + LANES;
  float *p = flow_scratch(0, (size_t)(ROWS * stride));
  for (long unit = begin; unit < end; unit++) {
    long head = unit / job->tiles, tile = unit % job->tiles, row = tile * ROWS;
    long rows = s.queries - row < ROWS ? s.queries - row : ROWS, at = head * s.queries + row;
    key_span span = job->spans[mask_number(job, head) * job->tiles + tile];
    const uint8_t *mask = job->mask + (mask_number(job, head) * s.queries + row) * s.keys + span.begin;
    long keys = span.end - span.begin;
    if (keys == 0) {
      memset(job->y + at * d, 0, (size_t)(rows * d) * sizeof(float));
      memset(job->logs + at, 0, (size_t)rows * sizeof(float));
      continue;
    }
    scores(p, stride, job->q + at * d, job->packed + head * panels(s) * PANEL * d, span, rows, d, s.scale);
    for (long i = 0; i < rows; i++) job->logs[at + i] = softmax_row(p + i * stride, mask + i * s.keys, keys);
    flow_product mix = {rows, d, keys, p, stride, 1, job->v + (head * s.keys + span.begin) * d, d, job->y + at * d,
                        d,    1, 0};
    flow_small_product(&mix);
  }
}

static void backward_body(void *context, long begin, long end) {
  attention_job *job = context;
  flow_attention_size s = job->s;
  long d = s.width, stride = panels(s) * PANEL + LANES, size = panels(s) * PANEL * d;
  float *p = flow_scratch(0, (size_t)(ROWS * stride)), *f = flow_scratch(1, (size_t)(ROWS * stride));
  for (long head = begin; head < end; head++) {
    memset(job->dk + head * s.keys * d, 0, (size_t)(s.keys * d) * sizeof(float));
    memset(job->dv + head * s.keys * d, 0, (size_t)(s.keys * d) * sizeof(float));
    const float *packed_k = job->packed + head * size, *packed_v = packed_k + s.batch * s.heads * size;
    for (long tile = 0; tile < job->tiles; tile++) {
      long row = tile * ROWS, rows = s.queries - row < ROWS ? s.queries - row : ROWS, at = head * s.queries + row;
      key_span span = job->spans[mask_number(job, head) * job->tiles + tile];
      const uint8_t *mask = job->mask + (mask_number(job, head) * s.queries + row) * s.keys + span.begin;
      long keys = span.end - span.begin, from = (head * s.keys + span.begin) * d;
      if (keys == 0) {
        memset(job->dq + at * d, 0, (size_t)(rows * d) * sizeof(float));
        continue;
      }
      const float *q = job->q + at * d, *g = job->g + at * d, *y = job->result + at * d;
      scores(p, stride, q, packed_k, span, rows, d, s.scale);
      for (long i = 0; i < rows; i++) weights_row(p + i * stride, mask + i * s.keys, job->logs[at + i], keys);
      flow_product of_v = {keys, d, rows, p, 1, stride, g, d, job->dv + from, d, 1, 1};
      flow_small_product(&of_v);
      scores(f, stride, g, packed_v, span, rows, d, 1);
      for (long i = 0; i < rows; i++) flow_row(f + i * stride, p + i * stride, g + i * d, y + i * d, d, s.scale, keys);
      flow_product of_q = {rows, d, keys, f, stride, 1, job->k + from, d, job->dq + at * d, d, 1, 0};
      flow_small_product(&of_q);
      flow_product of_k = {keys, d, rows, f, 1, stride, q, d, job->dk + from, d, 1, 1};
      flow_small_product(&of_k);
    }
  }
}

void flow_attention(int threads, flow_attention_size s, float *y, float *logs, const float *q, const float *k,
                    const float *v, const uint8_t *mask, float *work) {
  attention_job job = {.s = s, .y = y, .logs = logs, .q = q, .k = k, .v = v, .mask = mask, .packed = work};
  find_spans(threads, &job);
  flow_parallel(threads, s.batch * s.heads, 1, pack_body, &job);
  flow_parallel(threads, s.batch * s.heads * job.tiles, 1, forward_body, &job);
}

void flow_attention_back(int threads, flow_attention_size s, float *dq, float *dk, float *dv, const float *q,
                         const float *k, const float *v, const uint8_t *mask, const float *result, const float *logs,
                         const float *g, float *work) {
  attention_job job = {.s = s, .logs = (float *)logs, .dq = dq,   .dk = dk, .dv = dv,         .q = q,
                       .k = k, .v = v,                .mask = mask, .g = g,   .result = result, .packed = work};
  find_spans(threads, &job);
  flow_parallel(threads, 2 * s.batch * s.heads, 1, pack_body, &job);
  flow_parallel(threads, s.batch * s.heads, 1, backward_body, &job);
}
