#include "include/flow_kernels.h"
#include "vector_math.h"

// A unit of work is one row along the axis (inner 1), or up to STRIP neighbouring columns.
enum { STRIP = 64, LANES = 32, WORK = 1 << 14 };

typedef struct {
  float *y;
  int *place;
  const float *x;
  const int *index;
  long count, taken, inner, strips;
  int flag;
} axis_job;

static long strips(long inner) { return inner == 1 ? 1 : (inner + STRIP - 1) / STRIP; }

static long strip_width(const axis_job *job, long strip) {
  long left = job->inner - strip * STRIP;
  return job->inner == 1 ? 1 : (left < STRIP ? left : STRIP);
}

static long grain(long count, long inner) { return 1 + WORK / (count * (inner == 1 ? 1 : STRIP) + 1); }

// `sign` is 1 for the largest, -1 for the smallest.
static inline float better(float a, float b, float sign) { return sign * a > sign * b || a != a ? a : b; }

FLOW_CLONES static float row_extreme(const float *x, long count, float sign) {
  float lane[LANES];
  for (int k = 0; k < LANES; k++) lane[k] = x[0];
  long i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] = better(x[i + k], lane[k], sign);
  for (; i < count; i++) lane[0] = better(x[i], lane[0], sign);
  for (int k = 1; k < LANES; k++) lane[0] = better(lane[k], lane[0], sign);
  return lane[0];
}

FLOW_CLONES static void strip_extreme(float *y, const float *x, long count, long inner, long width, float sign) {
  for (long i = 0; i < width; i++) y[i] = x[i];
  for (long k = 1; k < count; k++)
    for (long i = 0; i < width; i++) y[i] = better(x[k * inner + i], y[i], sign);
}

static void extreme_body(void *context, long begin, long end) {
  axis_job *job = context;
  float sign = job->flag ? 1.0f : -1.0f;
  for (long unit = begin; unit < end; unit++) {
    long o = unit / job->strips, strip = unit % job->strips;
    const float *x = job->x + o * job->count * job->inner + strip * STRIP;
    float *y = job->y + o * job->inner + strip * STRIP;
    if (job->inner == 1)
      *y = row_extreme(x, job->count, sign);
    else
      strip_extreme(y, x, job->count, job->inner, strip_width(job, strip), sign);
  }
}

void flow_extreme(int threads, float *y, const float *x, long outer, long count, long inner, int largest) {
  axis_job job = {.y = y, .x = x, .count = count, .inner = inner, .strips = strips(inner), .flag = largest};
  flow_parallel(threads, outer * job.strips, grain(count, inner), extreme_body, &job);
}

static void arg_extreme_body(void *context, long begin, long end) {
  axis_job *job = context;
  float sign = job->flag ? 1.0f : -1.0f;
  for (long unit = begin; unit < end; unit++) {
    long o = unit / job->strips, strip = unit % job->strips, width = strip_width(job, strip);
    for (long i = 0; i < width; i++) {
      const float *x = job->x + o * job->count * job->inner + strip * STRIP + i;
      float top = x[0];
      int best = 0;
      for (long k = 1; k < job->count; k++) {
        float v = x[k * job->inner];
        if (sign * v > sign * top || (v != v && top == top)) top = v, best = (int)k;
      }
      job->place[o * job->inner + strip * STRIP + i] = best;
    }
  }
}

void flow_arg_extreme(int threads, int *y, const float *x, long outer, long count, long inner, int largest) {
  axis_job job = {.place = y, .x = x, .count = count, .inner = inner, .strips = strips(inner), .flag = largest};
  flow_parallel(threads, outer * job.strips, grain(count, inner), arg_extreme_body, &job);
}

FLOW_CLONES static void strip_sum(float *y, const float *x, long count, long inner, long width, int reverse) {
  double sum[STRIP] = {0};
  for (long k = 0; k < count; k++) {
    long at = (reverse ? count - 1 - k : k) * inner;
    for (long i = 0; i < width; i++) {
      sum[i] += (double)x[at + i];
      y[at + i] = (float)sum[i];
    }
  }
}

static void cumulative_body(void *context, long begin, long end) {
  axis_job *job = context;
  for (long unit = begin; unit < end; unit++) {
    long o = unit / job->strips, strip = unit % job->strips, at = o * job->count * job->inner + strip * STRIP;
    strip_sum(job->y + at, job->x + at, job->count, job->inner, strip_width(job, strip), job->flag);
  }
}

void flow_cumulative_sum(int threads, float *y, const float *x, long outer, long count, long inner, int reverse) {
  axis_job job = {.y = y, .x = x, .count = count, .inner = inner, .strips = strips(inner), .flag = reverse};
  flow_parallel(threads, outer * job.strips, grain(count, inner), cumulative_body, &job);
}

static void one_hot_body(void *context, long begin, long end) {
  axis_job *job = context;
  memset(job->y + begin * job->count, 0, (size_t)((end - begin) * job->count) * sizeof(float));
  for (long i = begin; i < end; i++)
    if (job->index[i] >= 0 && job->index[i] < job->count) job->y[i * job->count + job->index[i]] = 1.0f;
}

void flow_one_hot(int threads, float *y, const int *index, long count, long classes) {
  axis_job job = {.y = y, .index = index, .count = classes};
  flow_parallel(threads, count, 1 + WORK / classes, one_hot_body, &job);
}

static void take_body(void *context, long begin, long end) {
  axis_job *job = context;
  for (long unit = begin; unit < end; unit++) {
    const float *x = job->x + unit / job->taken * job->count * job->inner;
    const int *index = job->index + unit * job->inner;
    float *y = job->y + unit * job->inner;
    for (long i = 0; i < job->inner; i++)
      y[i] = index[i] >= 0 && index[i] < job->count ? x[index[i] * job->inner + i] : 0.0f;
  }
}

void flow_take_along(int threads, float *y, const float *x, const int *index, long outer, long count, long taken,
                     long inner) {
  axis_job job = {.y = y, .x = x, .index = index, .count = count, .taken = taken, .inner = inner};
  flow_parallel(threads, outer * taken, 1 + WORK / (inner + 1), take_body, &job);
}

// One range is one or more outer rows, so that no two ranges add to the same place.
static void put_body(void *context, long begin, long end) {
  axis_job *job = context;
  for (long o = begin; o < end; o++) {
    float *x = job->y + o * job->count * job->inner;
    memset(x, 0, (size_t)(job->count * job->inner) * sizeof(float));
    for (long k = 0; k < job->taken; k++) {
      const float *y = job->x + (o * job->taken + k) * job->inner;
      const int *index = job->index + (o * job->taken + k) * job->inner;
      for (long i = 0; i < job->inner; i++)
        if (index[i] >= 0 && index[i] < job->count) x[index[i] * job->inner + i] += y[i];
    }
  }
}

void flow_put_along(int threads, float *x, const float *y, const int *index, long outer, long count, long taken,
                    long inner) {
  axis_job job = {.y = x, .x = y, .index = index, .count = count, .taken = taken, .inner = inner};
  flow_parallel(threads, outer, 1 + WORK / ((count + taken) * inner + 1), put_body, &job);
}
