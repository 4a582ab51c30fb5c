#include "include/flow_kernels.h"
#include "vector_math.h"

enum { WORK = 1 << 14 };

typedef struct {
  flow_window_size s;
  float *y;
  const float *keys, *x;
} window_job;

/// The place in the plane of the largest key of the window of output (r, c).
static long largest(const flow_window_size *s, const float *keys, long r, long c) {
  long top = r * s->stride_row - s->padding_row, left = c * s->stride_column - s->padding_column, best = -1;
  for (long i = top < 0 ? 0 : top; i < top + s->window_rows && i < s->height; i++)
    for (long j = left < 0 ? 0 : left; j < left + s->window_columns && j < s->width; j++) {
      long at = i * s->width + j;
      if (best < 0 || keys[at] > keys[best] || (keys[at] != keys[at] && keys[best] == keys[best])) best = at;
    }
  return best;
}

static void take_body(void *context, long begin, long end) {
  window_job *job = context;
  const flow_window_size *s = &job->s;
  for (long unit = begin; unit < end; unit++) {
    long plane = unit / s->rows * s->height * s->width;
    for (long c = 0; c < s->columns; c++)
      job->y[unit * s->columns + c] = job->x[plane + largest(s, job->keys + plane, unit % s->rows, c)];
  }
}

void flow_window_take(int threads, flow_window_size s, float *y, const float *keys, const float *values) {
  window_job job = {s, y, keys, values};
  flow_parallel(threads, s.planes * s.rows, 1 + WORK / (s.columns * s.window_rows * s.window_columns), take_body, &job);
}

static void put_body(void *context, long begin, long end) {
  window_job *job = context;
  const flow_window_size *s = &job->s;
  for (long unit = begin; unit < end; unit++) {
    long plane = unit * s->height * s->width;
    const float *g = job->x + unit * s->rows * s->columns;
    memset(job->y + plane, 0, (size_t)(s->height * s->width) * sizeof(float));
    for (long r = 0; r < s->rows; r++)
      for (long c = 0; c < s->columns; c++)
        job->y[plane + largest(s, job->keys + plane, r, c)] += g[r * s->columns + c];
  }
}

void flow_window_put(int threads, flow_window_size s, float *x, const float *keys, const float *y) {
  window_job job = {s, x, keys, y};
  long work = s.rows * s.columns * s.window_rows * s.window_columns;
  flow_parallel(threads, s.planes, 1 + WORK / work, put_body, &job);
}

typedef struct {
  float *y;
  const float *x, *share;
  const int *first, *second;
  long from, to, inner;
} resample_job;

FLOW_CLONES static void between(float *y, const float *a, const float *b, float share, long count) {
  for (long i = 0; i < count; i++) y[i] = a[i] + (b[i] - a[i]) * share;
}

static void resample_body(void *context, long begin, long end) {
  resample_job *job = context;
  for (long unit = begin; unit < end; unit++) {
    long k = unit % job->to;
    const float *x = job->x + unit / job->to * job->from * job->inner;
    const float *a = x + job->first[k] * job->inner, *b = x + job->second[k] * job->inner;
    if (job->inner == 1)
      job->y[unit] = *a + (*b - *a) * job->share[k];
    else
      between(job->y + unit * job->inner, a, b, job->share[k], job->inner);
  }
}

void flow_resample(int threads, float *y, const float *x, long outer, long from, long to, long inner,
                   const int *first, const int *second, const float *share) {
  resample_job job = {y, x, share, first, second, from, to, inner};
  flow_parallel(threads, outer * to, 1 + WORK / (inner + 1), resample_body, &job);
}

FLOW_CLONES static void add_share(float *x, const float *y, float share, long count) {
  for (long i = 0; i < count; i++) x[i] += y[i] * share;
}

static void resample_back_body(void *context, long begin, long end) {
  resample_job *job = context;
  for (long o = begin; o < end; o++) {
    float *x = job->y + o * job->from * job->inner;
    memset(x, 0, (size_t)(job->from * job->inner) * sizeof(float));
    for (long k = 0; k < job->to; k++) {
      const float *y = job->x + (o * job->to + k) * job->inner;
      add_share(x + job->first[k] * job->inner, y, 1 - job->share[k], job->inner);
      add_share(x + job->second[k] * job->inner, y, job->share[k], job->inner);
    }
  }
}

void flow_resample_back(int threads, float *x, const float *y, long outer, long from, long to, long inner,
                        const int *first, const int *second, const float *share) {
  resample_job job = {x, y, share, first, second, from, to, inner};
  flow_parallel(threads, outer, 1 + WORK / ((from + to) * inner + 1), resample_back_body, &job);
}
