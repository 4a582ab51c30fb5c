#include "COpenBLAS.h"
#include "conv2d_direct.h"
#include "include/flow_kernels.h"
#include "vector_math.h"

// Groups of several channels: conv2d_direct.c. Of few: columns (im2col) of a tile of outputs at a time, small enough for
// the second-level cache, and a matrix product; where a group has one channel, directly. Tiles depend on the sizes alone, so results don't depend on the threads.

enum { CACHE = 1 << 17, LEAST = 64 };

typedef struct {
  flow_conv2d_size s;
  float *y;
  const float *x, *w;
  long taps, area, tile, tiles, chunk, chunks, slices;
} conv_job;

static long least(long a, long b) { return a < b ? a : b; }

static conv_job job_for(flow_conv2d_size s, long channels) {
  conv_job job = {.s = s, .taps = s.tap_rows * s.tap_columns, .area = s.rows * s.columns};
  long tile = CACHE / (channels * job.taps + 1) / 16 * 16, share = (job.area / 4 + 15) / 16 * 16;
  if (s.batch * s.groups < 4) tile = least(tile, share);
  job.tile = least(tile < LEAST ? LEAST : tile, 4096);
  job.tiles = (job.area + job.tile - 1) / job.tile;
  return job;
}

/// Outputs [low, high) of a row of `count` whose input start + i * stride is within [0, length).
static void inside(long start, long stride, long length, long count, long *low, long *high) {
  *low = start >= 0 ? 0 : least(count, (-start + stride - 1) / stride);
  *high = length - start <= 0 ? 0 : least(count, (length - start + stride - 1) / stride);
  if (*high < *low) *high = *low;
}

/// Calls for each piece of an output row in [t, t + n): its place in the tile, output row, first column, columns.
#define FOR_ROWS(t, n, columns)                                                              \
  for (long at = 0, row = (t) / (columns), first = (t) % (columns), count; at < (n);         \
       at += count, row++, first = 0)                                                        \
    if ((count = least((columns) - first, (n) - at)), 1)

// Columns [channels * taps, n] of outputs t..t+n; x is the first channel's image.
FLOW_CLONES static void make_columns(const conv_job *job, float *to, const float *x, long channels, long t, long n) {
  const flow_conv2d_size *s = &job->s;
  for (long c = 0; c < channels; c++, x += s->height * s->width)
    for (long k = 0; k < job->taps; k++, to += n) {
      long up = k / s->tap_columns * s->dilation_row - s->padding_row;
      long left = k % s->tap_columns * s->dilation_column - s->padding_column;
      FOR_ROWS(t, n, s->columns) {
        float *y = to + at;
        long from = row * s->stride_row + up, start = first * s->stride_column + left, low, high;
        if (from < 0 || from >= s->height) {
          memset(y, 0, (size_t)count * sizeof(float));
          continue;
        }
        inside(start, s->stride_column, s->width, count, &low, &high);
        const float *image = x + from * s->width + start;
        for (long i = 0; i < low; i++) y[i] = 0;
        if (s->stride_column == 1)
          memcpy(y + low, image + low, (size_t)(high - low) * sizeof(float));
        else
          for (long i = low; i < high; i++) y[i] = image[i * s->stride_column];
        for (long i = high; i < count; i++) y[i] = 0;
      }
    }
}

// The transpose: adds the columns to x.
FLOW_CLONES static void fold_columns(const conv_job *job, float *x, const float *from, long channels, long t, long n) {
  const flow_conv2d_size *s = &job->s;
  for (long c = 0; c < channels; c++, x += s->height * s->width)
    for (long k = 0; k < job->taps; k++, from += n) {
      long up = k / s->tap_columns * s->dilation_row - s->padding_row;
      long left = k % s->tap_columns * s->dilation_column - s->padding_column;
      FOR_ROWS(t, n, s->columns) {
        const float *y = from + at;
        long to = row * s->stride_row + up, start = first * s->stride_column + left, low, high;
        if (to < 0 || to >= s->height) continue;
        inside(start, s->stride_column, s->width, count, &low, &high);
        float *image = x + to * s->width + start;
        if (s->stride_column == 1)
          for (long i = low; i < high; i++) image[i] += y[i];
        else
          for (long i = low; i < high; i++) image[i * s->stride_column] += y[i];
      }
    }
}

/// Whether the columns are x itself.
static int is_plain(const flow_conv2d_size *s) {
  return s->tap_rows * s->tap_columns == 1 && s->stride_row == 1 && s->stride_column == 1 && s->padding_row == 0 &&
         s->padding_column == 0;
}

/// y += f * x at a stride on x.
FLOW_CLONES static void add_scaled(float *y, const float *x, float f, long count, long stride) {
  if (stride == 1)
    for (long i = 0; i < count; i++) y[i] += f * x[i];
  else
    for (long i = 0; i < count; i++) y[i] += f * x[i * stride];
}

// One channel in, one out at a time: a tap after another over each row.
static void direct_tile(const conv_job *job, float *y, const float *x, const float *w, long t, long n) {
  const flow_conv2d_size *s = &job->s;
  memset(y, 0, (size_t)n * sizeof(float));
  FOR_ROWS(t, n, s->columns) {
    for (long k = 0; k < job->taps; k++) {
      long from = row * s->stride_row + k / s->tap_columns * s->dilation_row - s->padding_row, low, high;
      long start = first * s->stride_column + k % s->tap_columns * s->dilation_column - s->padding_column;
      if (from < 0 || from >= s->height) continue;
      inside(start, s->stride_column, s->width, count, &low, &high);
      add_scaled(y + at + low, x + from * s->width + start + low * s->stride_column, w[k], high - low,
                 s->stride_column);
    }
  }
}

static void forward_body(void *context, long begin, long end) {
  conv_job *job = context;
  const flow_conv2d_size *s = &job->s;
  int plain = is_plain(s), direct = s->in == 1 && s->out <= 4;
  float *columns = plain || direct ? NULL : flow_scratch(0, (size_t)(s->in * job->taps * job->tile));
  for (long unit = begin; unit < end; unit++) {
    long t = unit % job->tiles * job->tile, plane = unit / job->tiles, n = least(job->tile, job->area - t);
    const float *x = job->x + plane * s->in * s->height * s->width;
    const float *w = job->w + plane % s->groups * s->out * s->in * job->taps;
    float *y = job->y + plane * s->out * job->area + t;
    if (direct) {
      for (long o = 0; o < s->out; o++) direct_tile(job, y + o * job->area, x, w + o * job->taps, t, n);
      continue;
    }
    if (!plain) make_columns(job, columns, x, s->in, t, n);
    flow_blas_sgemm(FLOW_ROW_MAJOR, FLOW_NO_TRANS, FLOW_NO_TRANS, (int)s->out, (int)n, (int)(s->in * job->taps), 1, w,
                    (int)(s->in * job->taps), plain ? x + t : columns, (int)(plain ? job->area : n), 0, y,
                    (int)job->area);
  }
}

void flow_conv2d(int threads, flow_conv2d_size s, float *y, const float *x, const float *w) {
  if (flow_conv2d_is_direct(&s)) {
    flow_conv2d_direct(threads, s, y, x, w);
    return;
  }
  conv_job job = job_for(s, s.in);
  job.y = y, job.x = x, job.w = w;
  double work = (double)s.out * (double)s.in * (double)(job.taps * job.tile);
  flow_parallel(threads, s.batch * s.groups * job.tiles, 1 + (long)(1e5 / (work + 1)), forward_body, &job);
}

// A chunk of a group's channels has its own part of x, and its own columns of the weight's gradient.
static void set_chunks(conv_job *job) {
  const flow_conv2d_size *s = &job->s;
  long most = s->batch * s->groups >= 4 ? s->in : (s->in + 3) / 4;
  job->chunk = most < 1 ? 1 : least(most, 64);
  job->chunks = (s->in + job->chunk - 1) / job->chunk;
}

static void back_body(void *context, long begin, long end) {
  conv_job *job = context;
  const flow_conv2d_size *s = &job->s;
  float *columns = flow_scratch(0, (size_t)(job->chunk * job->taps * job->tile));
  for (long unit = begin; unit < end; unit++) {
    long c = unit % job->chunks * job->chunk, plane = unit / job->chunks, channels = least(job->chunk, s->in - c);
    float *x = job->y + (plane * s->in + c) * s->height * s->width;
    const float *w = job->w + (plane % s->groups * s->out * s->in + c) * job->taps;
    const float *y = job->x + plane * s->out * job->area;
    memset(x, 0, (size_t)(channels * s->height * s->width) * sizeof(float));
    for (long t = 0; t < job->area; t += job->tile) {
      long n = least(job->tile, job->area - t);
      flow_blas_sgemm(FLOW_ROW_MAJOR, FLOW_TRANS, FLOW_NO_TRANS, (int)(channels * job->taps), (int)n, (int)s->out, 1,
                      w, (int)(s->in * job->taps), y + t, (int)job->area, 0, columns, (int)n);
      fold_columns(job, x, columns, channels, t, n);
    }
  }
}

void flow_conv2d_back(int threads, flow_conv2d_size s, float *x, const float *y, const float *w) {
  if (flow_conv2d_is_direct(&s)) {
    flow_conv2d_direct_back(threads, s, x, y, w);
    return;
  }
  conv_job job = job_for(s, least(s.in, 64));
  job.y = x, job.x = y, job.w = w;
  set_chunks(&job);
  double work = (double)(job.chunk * s.out) * (double)(job.taps * job.area);
  flow_parallel(threads, s.batch * s.groups * job.chunks, 1 + (long)(1e5 / (work + 1)), back_body, &job);
}

static void weight_body(void *context, long begin, long end) {
  conv_job *job = context;
  const flow_conv2d_size *s = &job->s;
  float *columns = flow_scratch(0, (size_t)(job->chunk * job->taps * job->tile));
  long width = s->in * job->taps, size = s->groups * s->out * width, parts = s->batch * job->tiles;
  for (long unit = begin; unit < end; unit++) {
    long c = unit % job->chunks * job->chunk, rest = unit / job->chunks, channels = least(job->chunk, s->in - c);
    long group = rest % s->groups, slice = rest / s->groups;
    float *w = job->y + slice * size + group * s->out * width + c * job->taps;
    long from = parts * slice / job->slices, to = parts * (slice + 1) / job->slices;
    if (from == to)
      for (long o = 0; o < s->out; o++) memset(w + o * width, 0, (size_t)(channels * job->taps) * sizeof(float));
    for (long part = from; part < to; part++) {
      long b = part / job->tiles, t = part % job->tiles * job->tile, n = least(job->tile, job->area - t);
      const float *x = job->x + ((b * s->groups + group) * s->in + c) * s->height * s->width;
      const float *y = job->w + (b * s->groups + group) * s->out * job->area + t;
      make_columns(job, columns, x, channels, t, n);
      flow_blas_sgemm(FLOW_ROW_MAJOR, FLOW_NO_TRANS, FLOW_TRANS, (int)s->out, (int)(channels * job->taps), (int)n, 1, y,
                      (int)job->area, columns, (int)n, part == from ? 0 : 1, w, (int)width);
    }
  }
}

void flow_conv2d_weight(int threads, flow_conv2d_size s, float *w, const float *x, const float *y, float *partial,
                        int slices) {
  if (flow_conv2d_is_direct(&s)) {
    flow_conv2d_direct_weight(threads, s, w, x, y);
    return;
  }
  conv_job job = job_for(s, least(s.in, 64));
  job.x = x, job.w = y;
  set_chunks(&job);
  job.slices = s.groups * job.chunks < 4 ? slices : 1;
  job.y = job.slices > 1 ? partial : w;
  double work = (double)(job.chunk * s.out * s.batch) * (double)(job.taps * job.area / job.slices);
  flow_parallel(threads, job.slices * s.groups * job.chunks, 1 + (long)(1e5 / (work + 1)), weight_body, &job);
  if (job.slices == 1) return;
  long size = s.groups * s.out * s.in * job.taps;
  memcpy(w, partial, (size_t)size * sizeof(float));
  for (long slice = 1; slice < job.slices; slice++) add_scaled(w, partial + slice * size, 1, size, 1);
}
