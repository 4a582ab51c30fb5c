#include "include/flow_kernels.h"
#include "vector_math.h"

enum { CHUNK = 1 << 14 };

typedef struct {
  float *y, *scale;
  const float *x;
  long outer, count, inner, pieces;
  float epsilon;
} reduce_job;

/// A sum in 32 lanes, then the lanes in order: the same for every build of the function.
FLOW_CLONES static float sum_run(const float *x, long count) {
  float lane[32] = {0};
  long i = 0;
  for (; i + 32 <= count; i += 32)
    for (int k = 0; k < 32; k++) lane[k] += x[i + k];
  for (int k = 0; i < count; i++, k++) lane[k] += x[i];
  for (int width = 16; width > 0; width /= 2)
    for (int k = 0; k < width; k++) lane[k] += lane[k + width];
  return lane[0];
}

static void sum_rows(void *context, long begin, long end) {
  reduce_job *job = context;
  for (long unit = begin; unit < end; unit++) {
    long row = unit / job->pieces, piece = unit % job->pieces, start = piece * CHUNK;
    long count = job->count - start < CHUNK ? job->count - start : CHUNK;
    job->y[unit] = sum_run(job->x + row * job->count + start, count);
  }
}

FLOW_CLONES static void add_run(float *y, const float *x, long count) {
  for (long i = 0; i < count; i++) y[i] += x[i];
}

static void sum_columns(void *context, long begin, long end) {
  reduce_job *job = context;
  for (long unit = begin; unit < end; unit++) {
    long row = unit / job->pieces, start = unit % job->pieces * 256;
    long width = job->inner - start < 256 ? job->inner - start : 256;
    float *y = job->y + row * job->inner + start;
    const float *x = job->x + row * job->count * job->inner + start;
    memset(y, 0, (size_t)width * sizeof(float));
    for (long i = 0; i < job->count; i++) add_run(y, x + i * job->inner, width);
  }
}

long flow_sum_partials(long outer, long count, long inner) {
  return inner == 1 && count > CHUNK ? outer * ((count + CHUNK - 1) / CHUNK) : 0;
}

void flow_sum(int threads, float *y, const float *x, long outer, long count, long inner, float *partial) {
  if (count == 0) {
    memset(y, 0, (size_t)(outer * inner) * sizeof(float));
    return;
  }
  if (inner == 1) {
    long pieces = (count + CHUNK - 1) / CHUNK;
    reduce_job job = {.y = pieces > 1 ? partial : y, .x = x, .count = count, .pieces = pieces};
    flow_parallel(threads, outer * pieces, count < CHUNK ? CHUNK / (count + 1) + 1 : 1, sum_rows, &job);
    if (pieces > 1)
      for (long row = 0; row < outer; row++) y[row] = sum_run(partial + row * pieces, pieces);
    return;
  }
  reduce_job job = {.y = y, .x = x, .count = count, .inner = inner, .pieces = (inner + 255) / 256};
  flow_parallel(threads, outer * job.pieces, 1, sum_columns, &job);
}

FLOW_CLONES static void softmax_run(float *y, const float *x, long width) {
  float top = x[0];
  for (long i = 1; i < width; i++) top = x[i] > top ? x[i] : top;
  for (long i = 0; i < width; i++) y[i] = x[i] - top < -87.0f ? 0.0f : flow_exp(x[i] - top);
  float scale = 1.0f / sum_run(y, width);
  for (long i = 0; i < width; i++) y[i] *= scale;
}

static void softmax_rows(void *context, long begin, long end) {
  reduce_job *job = context;
  for (long row = begin; row < end; row++)
    softmax_run(job->y + row * job->count, job->x + row * job->count, job->count);
}

void flow_softmax(int threads, float *y, const float *x, long rows, long width) {
  if (width == 0) return;
  reduce_job job = {.y = y, .x = x, .count = width};
  flow_parallel(threads, rows, CHUNK / (width * 4) + 1, softmax_rows, &job);
}

FLOW_CLONES static float square_run(const float *x, long count) {
  float lane[32] = {0};
  long i = 0;
  for (; i + 32 <= count; i += 32)
    for (int k = 0; k < 32; k++) lane[k] += x[i + k] * x[i + k];
  for (int k = 0; i < count; i++, k++) lane[k] += x[i] * x[i];
  for (int width = 16; width > 0; width /= 2)
    for (int k = 0; k < width; k++) lane[k] += lane[k + width];
  return lane[0];
}

static void rms_rows(void *context, long begin, long end) {
  reduce_job *job = context;
  for (long row = begin; row < end; row++) {
    const float *x = job->x + row * job->count;
    float *y = job->y + row * job->count;
    float scale = 1.0f / __builtin_sqrtf(square_run(x, job->count) / (float)job->count + job->epsilon);
    job->scale[row] = scale;
    for (long i = 0; i < job->count; i++) y[i] = x[i] * scale;
  }
}

void flow_rms(int threads, float *y, float *scale, const float *x, long rows, long width, float epsilon) {
  reduce_job job = {.y = y, .scale = scale, .x = x, .count = width, .epsilon = epsilon};
  flow_parallel(threads, rows, CHUNK / width + 1, rms_rows, &job);
}

typedef struct {
  float *y;
  const float *x;
  long count, before, after, window, hop, frames;
  int mode;
} arrange_job;

static long origin(const arrange_job *job, long i) {
  long j = i - job->before;
  if (j >= 0 && j < job->count) return j;
  if (job->mode == 0) return -1;
  if (job->mode == 1) return j < 0 ? 0 : job->count - 1;
  if (job->mode == 3) return j < 0 ? j + job->count : j - job->count;
  return j < 0 ? -j : 2 * (job->count - 1) - j;
}

static void pad_rows(void *context, long begin, long end) {
  arrange_job *job = context;
  long wide = job->count + job->before + job->after;
  for (long row = begin; row < end; row++) {
    float *y = job->y + row * wide;
    const float *x = job->x + row * job->count;
    for (long i = 0; i < job->before; i++) {
      long from = origin(job, i);
      y[i] = from < 0 ? 0 : x[from];
    }
    memcpy(y + job->before, x, (size_t)job->count * sizeof(float));
    for (long i = job->before + job->count; i < wide; i++) {
      long from = origin(job, i);
      y[i] = from < 0 ? 0 : x[from];
    }
  }
}

void flow_pad(int threads, float *y, const float *x, long rows, long count, long before, long after, int mode) {
  arrange_job job = {.y = y, .x = x, .count = count, .before = before, .after = after, .mode = mode};
  flow_parallel(threads, rows, CHUNK / (count + 1) + 1, pad_rows, &job);
}

static void unpad_rows(void *context, long begin, long end) {
  arrange_job *job = context;
  long wide = job->count + job->before + job->after;
  for (long row = begin; row < end; row++) {
    float *y = job->y + row * job->count;
    const float *g = job->x + row * wide;
    memcpy(y, g + job->before, (size_t)job->count * sizeof(float));
    for (long i = 0; i < wide; i++) {
      if (i == job->before) i += job->count;
      if (i >= wide) break;
      long to = origin(job, i);
      if (to >= 0) y[to] += g[i];
    }
  }
}

void flow_unpad(int threads, float *y, const float *g, long rows, long count, long before, long after, int mode) {
  arrange_job job = {.y = y, .x = g, .count = count, .before = before, .after = after, .mode = mode};
  flow_parallel(threads, rows, CHUNK / (count + 1) + 1, unpad_rows, &job);
}

static void frame_rows(void *context, long begin, long end) {
  arrange_job *job = context;
  for (long unit = begin; unit < end; unit++) {
    long row = unit / job->frames, frame = unit % job->frames;
    memcpy(job->y + unit * job->window, job->x + row * job->count + frame * job->hop,
           (size_t)job->window * sizeof(float));
  }
}

void flow_frame(int threads, float *y, const float *x, long rows, long length, long window, long hop) {
  arrange_job job = {.y = y, .x = x, .count = length, .window = window, .hop = hop};
  job.frames = (length - window) / hop + 1;
  flow_parallel(threads, rows * job.frames, CHUNK / window + 1, frame_rows, &job);
}

static void overlap_rows(void *context, long begin, long end) {
  arrange_job *job = context;
  for (long row = begin; row < end; row++) {
    float *y = job->y + row * job->count;
    memset(y, 0, (size_t)job->count * sizeof(float));
    for (long f = 0; f < job->frames; f++)
      add_run(y + f * job->hop, job->x + (row * job->frames + f) * job->window, job->window);
  }
}

void flow_overlap_add(int threads, float *y, const float *x, long rows, long frames, long window, long hop,
                      long length) {
  arrange_job job = {.y = y, .x = x, .count = length, .window = window, .hop = hop, .frames = frames};
  flow_parallel(threads, rows, 1, overlap_rows, &job);
}

void flow_gather(int threads, float *y, const float *table, const int *index, long count, long rows, long width) {
  (void)threads;
  for (long i = 0; i < count; i++)
    if (index[i] >= 0 && index[i] < rows)
      memcpy(y + i * width, table + index[i] * width, (size_t)width * sizeof(float));
    else
      memset(y + i * width, 0, (size_t)width * sizeof(float));
}

void flow_scatter_add(float *y, const float *x, const int *index, long count, long rows, long width) {
  memset(y, 0, (size_t)(rows * width) * sizeof(float));
  for (long i = 0; i < count; i++)
    if (index[i] >= 0 && index[i] < rows) add_run(y + index[i] * width, x + i * width, width);
}
