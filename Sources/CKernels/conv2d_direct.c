#include "conv2d_direct.h"

#include "include/flow_kernels.h"
#include "vector_math.h"

// The padded image is split in planes, one for each remainder of row and column by the strides. Over a plane, rows laid
// end to end, every tap is a constant shift, so a convolution of any stride is a sum of shifted rows: four outputs by 64
// samples in registers. What falls between the rows of the result is left out when it is stored.

typedef float block __attribute__((vector_size(64), aligned(4)));
enum { TILE = 64, OUTPUTS = 4, SIDE = 4, SPAN = 1024, RUN = 8, MOST = 1 << 22 };

typedef struct {
  long pitch, rows, count, phases, reach, plane, wide;
} layout;

static long least(long a, long b) { return a < b ? a : b; }

static layout layout_of(const flow_conv2d_size *s) {
  layout l = {.phases = s->stride_row * s->stride_column};
  long down = s->dilation_row * (s->tap_rows - 1) / s->stride_row;
  long across = s->dilation_column * (s->tap_columns - 1) / s->stride_column;
  l.pitch = s->columns + across;
  l.rows = s->rows + down;
  l.count = (s->rows - 1) * l.pitch + s->columns;
  l.reach = down * l.pitch + across;
  l.plane = l.rows * l.pitch + l.reach + 2 * TILE;
  l.wide = l.reach + l.plane;
  return l;
}

/// The plane of tap k, and its shift in it.
static long tap_phase(const flow_conv2d_size *s, long k) {
  return k / s->tap_columns * s->dilation_row % s->stride_row * s->stride_column +
         k % s->tap_columns * s->dilation_column % s->stride_column;
}

static long tap_shift(const flow_conv2d_size *s, const layout *l, long k) {
  return k / s->tap_columns * s->dilation_row / s->stride_row * l->pitch +
         k % s->tap_columns * s->dilation_column / s->stride_column;
}

typedef struct {
  flow_conv2d_size s;
  layout l;
  float *to;
  const float *from;
} split_job;

/// Planes of channels of x.
static void split_body(void *context, long begin, long end) {
  split_job *job = context;
  const flow_conv2d_size *s = &job->s;
  const layout *l = &job->l;
  for (long unit = begin; unit < end; unit++) {
    long phase = unit % l->phases;
    const float *x = job->from + unit / l->phases * s->height * s->width;
    float *to = job->to + unit * l->plane;
    memset(to, 0, (size_t)l->plane * sizeof(float));
    long left = phase % s->stride_column - s->padding_column;
    long low = left >= 0 ? 0 : (-left + s->stride_column - 1) / s->stride_column;
    for (long r = 0; r < l->rows; r++) {
      long row = r * s->stride_row + phase / s->stride_column - s->padding_row;
      if (row < 0 || row >= s->height) continue;
      long high = least(l->pitch, (s->width - left + s->stride_column - 1) / s->stride_column);
      for (long c = low; c < high; c++) to[r * l->pitch + c] = x[row * s->width + left + c * s->stride_column];
    }
  }
}

/// Rows of y at the planes' pitch, `reach` zeros before them.
static void spread_body(void *context, long begin, long end) {
  split_job *job = context;
  const flow_conv2d_size *s = &job->s;
  for (long unit = begin; unit < end; unit++) {
    float *to = job->to + unit * job->l.wide;
    memset(to, 0, (size_t)job->l.wide * sizeof(float));
    for (long r = 0; r < s->rows; r++)
      memcpy(to + job->l.reach + r * job->l.pitch, job->from + (unit * s->rows + r) * s->columns,
             (size_t)s->columns * sizeof(float));
  }
}

/// Sums of shifted rows: `planes` inputs [groups * in, channel] to images [groups * out, height, width], whose element of
/// the pitch's row r and column c is (r * step_row + first_row, c * step_column + first_column).
typedef struct {
  long groups, in, out, taps, count, channel, pitch, blocks, tiles, height, width, step_row, step_column, first_row,
      first_column;
  const long *at;
  const float *x, *w;
  float *y;
} tile_job;

FLOW_CLONES static void sum_tile(const tile_job *job, const float *x, const float *weight, long o, float *to) {
  long taps = job->taps, last = job->out - 1;
  const float *w[OUTPUTS];
  for (int i = 0; i < OUTPUTS; i++) w[i] = weight + (o + i < last ? o + i : last) * job->in * taps;
  block acc[OUTPUTS][4] = {{{0}}};
  for (long c = 0; c < job->in; c++, x += job->channel)
    for (long k = 0; k < taps; k++) {
      const float *v = x + job->at[k];
      block x0 = *(const block *)v, x1 = *(const block *)(v + 16), x2 = *(const block *)(v + 32),
            x3 = *(const block *)(v + 48);
      for (int i = 0; i < OUTPUTS; i++) {
        float f = w[i][c * taps + k];
        acc[i][0] += x0 * f;
        acc[i][1] += x1 * f;
        acc[i][2] += x2 * f;
        acc[i][3] += x3 * f;
      }
    }
  memcpy(to, acc, sizeof acc);
}

static void store(const tile_job *job, float *y, const float *from, long t) {
  long end = least(t + TILE, job->count), r = t / job->pitch, c = t % job->pitch;
  if (job->pitch == job->width && job->step_row == 1 && job->first_row == 0 && job->first_column == 0) {
    memcpy(y + t, from, (size_t)(end - t) * sizeof(float));
    return;
  }
  for (long at = t, stop; at < end; at = stop, r++, c = 0) {
    stop = least(end, at + job->pitch - c);
    long row = r * job->step_row + job->first_row;
    if (row < 0 || row >= job->height) continue;
    for (long i = at; i < stop; i++) {
      long column = (c + i - at) * job->step_column + job->first_column;
      if (column >= 0 && column < job->width) y[row * job->width + column] = from[i - t];
    }
  }
}

static void tile_body(void *context, long begin, long end) {
  tile_job *job = context;
  long units = job->blocks * job->tiles;
  for (long unit = begin; unit < end; unit++) {
    long image = unit / units, rest = unit % units, group = image % job->groups;
    long o = rest % job->blocks * OUTPUTS, t = rest / job->blocks * TILE;
    float sums[OUTPUTS * TILE];
    sum_tile(job, job->x + image * job->in * job->channel + t, job->w + group * job->out * job->in * job->taps, o, sums);
    for (long i = 0; i < OUTPUTS && o + i < job->out; i++)
      store(job, job->y + (image * job->out + o + i) * job->height * job->width, sums + i * TILE, t);
  }
}

static void run_tiles(int threads, tile_job *job, long batch) {
  job->blocks = (job->out + OUTPUTS - 1) / OUTPUTS;
  job->tiles = (job->count + TILE - 1) / TILE;
  long grain = 1 + 100000 / (job->in * job->taps * TILE * OUTPUTS + 1);
  flow_parallel(threads, batch * job->groups * job->blocks * job->tiles, grain, tile_body, job);
}

/// Batch elements whose planes are made at a time.
static long share(const flow_conv2d_size *s, long floats) {
  return floats > MOST ? 1 : least(s->batch, MOST / (floats + 1) + 1);
}

int flow_conv2d_is_direct(const flow_conv2d_size *s) {
  return s->in >= 4 && s->tap_rows * s->tap_columns <= FLOW_MOST_TAPS;
}

void flow_conv2d_direct(int threads, flow_conv2d_size s, float *y, const float *x, const float *w) {
  layout l = layout_of(&s);
  long taps = s.tap_rows * s.tap_columns, channels = s.groups * s.in, floats = channels * l.phases * l.plane;
  long at[FLOW_MOST_TAPS], most = share(&s, floats);
  for (long k = 0; k < taps; k++) at[k] = tap_phase(&s, k) * l.plane + tap_shift(&s, &l, k);
  float *planes = flow_scratch(2, (size_t)(floats * most));
  for (long b = 0; b < s.batch; b += most) {
    long count = least(most, s.batch - b);
    split_job split = {s, l, planes, x + b * channels * s.height * s.width};
    flow_parallel(threads, count * channels * l.phases, 1 + 16384 / l.plane, split_body, &split);
    tile_job job = {.groups = s.groups, .in = s.in, .out = s.out, .taps = taps, .count = l.count,
                    .channel = l.phases * l.plane, .pitch = l.pitch, .height = s.rows, .width = s.columns,
                    .step_row = 1, .step_column = 1, .at = at, .x = planes, .w = w,
                    .y = y + b * s.groups * s.out * s.rows * s.columns};
    run_tiles(threads, &job, count);
  }
}

void flow_conv2d_direct_back(int threads, flow_conv2d_size s, float *x, const float *y, const float *w) {
  layout l = layout_of(&s);
  long taps = s.tap_rows * s.tap_columns, outputs = s.groups * s.out, floats = outputs * l.wide;
  long image = s.groups * s.in * s.height * s.width, size = outputs * s.in * taps, most = share(&s, floats);
  float *memory = flow_scratch(2, (size_t)(floats * most + size)), *weights = memory + floats * most;
  memset(x, 0, (size_t)(s.batch * image) * sizeof(float));
  for (long b = 0; b < s.batch; b += most) {
    long count = least(most, s.batch - b);
    split_job split = {s, l, memory, y + b * outputs * s.rows * s.columns};
    flow_parallel(threads, count * outputs, 1 + 16384 / l.wide, spread_body, &split);
    for (long phase = 0; phase < l.phases; phase++) {
      // The taps of this plane, with the weight of each input channel together.
      long at[FLOW_MOST_TAPS], tap[FLOW_MOST_TAPS], found = 0;
      for (long k = 0; k < taps; k++)
        if (tap_phase(&s, k) == phase) tap[found] = k, at[found++] = l.reach - tap_shift(&s, &l, k);
      if (found == 0) continue;
      float *to = weights;
      for (long g = 0; g < s.groups; g++)
        for (long c = 0; c < s.in; c++)
          for (long o = 0; o < s.out; o++)
            for (long k = 0; k < found; k++) *to++ = w[((g * s.out + o) * s.in + c) * taps + tap[k]];
      tile_job job = {.groups = s.groups, .in = s.out, .out = s.in, .taps = found, .count = l.rows * l.pitch,
                      .channel = l.wide, .pitch = l.pitch, .height = s.height, .width = s.width,
                      .step_row = s.stride_row, .step_column = s.stride_column,
                      .first_row = phase / s.stride_column - s.padding_row,
                      .first_column = phase % s.stride_column - s.padding_column, .at = at, .x = memory, .w = weights,
                      .y = x + b * image};
      run_tiles(threads, &job, count);
    }
  }
}

typedef struct {
  long groups, in, out, taps, count, images, channel, wide;
  const long *at;
  const float *x, *y;
  float *w;
  int add;
} weight_job;

/// Weights of outputs o.., inputs c.. (clamped at the ends) for every tap: products summed over samples and images in 16
/// lanes, a span after another so that the eight rows stay in the nearest cache. y is 0 past its count.
FLOW_CLONES static void weight_square(const weight_job *job, long group, long o, long c, float *sums) {
  memset(sums, 0, (size_t)(job->taps * SIDE * SIDE * 16) * sizeof(float));
  for (long b = 0; b < job->images; b++) {
    const float *g[SIDE], *x[SIDE];
    for (int i = 0; i < SIDE; i++) {
      g[i] = job->y + ((b * job->groups + group) * job->out + least(o + i, job->out - 1)) * job->wide;
      x[i] = job->x + ((b * job->groups + group) * job->in + least(c + i, job->in - 1)) * job->channel;
    }
    for (long start = 0; start < job->count; start += SPAN)
      for (long k = 0; k < job->taps; k++) {
        block *sum = (block *)(sums + k * SIDE * SIDE * 16), acc[SIDE][SIDE];
        for (int i = 0; i < SIDE * SIDE; i++) acc[i / SIDE][i % SIDE] = sum[i];
        long end = least(start + SPAN, job->count), shift = job->at[k];
        for (long t = start; t < end; t += 16) {
          block v[SIDE];
          for (int j = 0; j < SIDE; j++) v[j] = *(const block *)(x[j] + t + shift);
          for (int i = 0; i < SIDE; i++) {
            block u = *(const block *)(g[i] + t);
            for (int j = 0; j < SIDE; j++) acc[i][j] += u * v[j];
          }
        }
        for (int i = 0; i < SIDE * SIDE; i++) sum[i] = acc[i / SIDE][i % SIDE];
      }
  }
}

/// Runs of `RUN` squares that cover the inputs.
static long weight_runs(long in) { return (in + SIDE * RUN - 1) / (SIDE * RUN); }

static void weight_body(void *context, long begin, long end) {
  weight_job *job = context;
  long rows = (job->out + SIDE - 1) / SIDE, runs = weight_runs(job->in);
  float *sums = flow_scratch(1, (size_t)(job->taps * SIDE * SIDE * 16));
  for (long unit = begin; unit < end; unit++) {
    // All outputs with a few inputs, which stay in the second-level cache.
    long c = (unit / RUN / rows % runs * RUN + unit % RUN) * SIDE, o = unit / RUN % rows * SIDE;
    long group = unit / RUN / rows / runs;
    if (c >= job->in) continue;
    weight_square(job, group, o, c, sums);
    for (long k = 0; k < job->taps; k++) {
      float total[SIDE * SIDE] = {0};
      for (int n = 0; n < 16; n++)
        for (int q = 0; q < SIDE * SIDE; q++) total[q] += sums[(k * SIDE * SIDE + q) * 16 + n];
      for (long i = 0; i < SIDE && o + i < job->out; i++)
        for (long j = 0; j < SIDE && c + j < job->in; j++) {
          float *w = job->w + ((group * job->out + o + i) * job->in + c + j) * job->taps + k;
          *w = (job->add ? *w : 0) + total[i * SIDE + j];
        }
    }
  }
}

void flow_conv2d_direct_weight(int threads, flow_conv2d_size s, float *w, const float *x, const float *y) {
  layout l = layout_of(&s);
  long taps = s.tap_rows * s.tap_columns, channels = s.groups * s.in, outputs = s.groups * s.out;
  long floats = channels * l.phases * l.plane, spread = outputs * l.wide, most = share(&s, floats + spread);
  long at[FLOW_MOST_TAPS];
  for (long k = 0; k < taps; k++) at[k] = tap_phase(&s, k) * l.plane + tap_shift(&s, &l, k);
  float *planes = flow_scratch(2, (size_t)((floats + spread) * most)), *rows = planes + floats * most;
  if (s.batch == 0) memset(w, 0, (size_t)(outputs * s.in * taps) * sizeof(float));
  for (long b = 0; b < s.batch; b += most) {
    long count = least(most, s.batch - b);
    split_job split = {s, l, planes, x + b * channels * s.height * s.width};
    flow_parallel(threads, count * channels * l.phases, 1 + 16384 / l.plane, split_body, &split);
    split_job gather = {s, l, rows, y + b * outputs * s.rows * s.columns};
    flow_parallel(threads, count * outputs, 1 + 16384 / l.wide, spread_body, &gather);
    weight_job job = {s.groups, s.in, s.out, taps, l.count, count, l.phases * l.plane, l.wide, at, planes,
                      rows + l.reach, w, b > 0};
    long squares = s.groups * ((s.out + SIDE - 1) / SIDE) * weight_runs(s.in) * RUN;
    flow_parallel(threads, squares, 1 + 20000 / (taps * l.count * count), weight_body, &job);
  }
}
