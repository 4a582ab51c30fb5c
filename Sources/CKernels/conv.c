#include "COpenBLAS.h"
#include "include/flow_kernels.h"
#include "vector_math.h"

// Stride 1: a direct kernel over a zero-padded copy, four outputs by 64 samples in registers, which serves the few and
// the many channels of a vocoder alike. Other strides (their results are short): columns and a matrix product.

typedef float block __attribute__((vector_size(64), aligned(4)));
enum { TILE = 64, OUTPUTS = 4 };

typedef struct {
  flow_conv_size s;
  const float *x, *w;  // x: padded rows of `row` floats; w: [out, in, taps]
  float *y;
  long row, outputs, tiles;
} direct_job;

/// Outputs o..o+3 (clamped to the last), samples t..t+63 of one batch element, all of it inside the padded rows.
FLOW_CLONES static void direct_tile(const direct_job *job, long o, long t) {
  long in = job->s.in, taps = job->s.taps, d = job->s.dilation, last = job->s.out - 1;
  const float *w[OUTPUTS];
  for (int i = 0; i < OUTPUTS; i++) w[i] = job->w + (o + i < last ? o + i : last) * in * taps;
  block acc[OUTPUTS][4] = {{{0}}};
  for (long c = 0; c < in; c++) {
    const float *x = job->x + c * job->row + t;
    for (long k = 0; k < taps; k++, x += d) {
      block x0 = *(const block *)x, x1 = *(const block *)(x + 16), x2 = *(const block *)(x + 32),
            x3 = *(const block *)(x + 48);
      long at = c * taps + k;
      for (int i = 0; i < OUTPUTS; i++) {
        float f = w[i][at];
        acc[i][0] += x0 * f;
        acc[i][1] += x1 * f;
        acc[i][2] += x2 * f;
        acc[i][3] += x3 * f;
      }
    }
  }
  long count = job->s.result - t < TILE ? job->s.result - t : TILE;
  for (int i = 0; i < OUTPUTS && o + i <= last; i++)
    memcpy(job->y + (o + i) * job->s.result + t, acc[i], (size_t)count * sizeof(float));
}

static void direct_body(void *context, long begin, long end) {
  direct_job *job = context;
  for (long unit = begin; unit < end; unit++)
    direct_tile(job, unit % job->outputs * OUTPUTS, unit / job->outputs * TILE);
}

/// Rows of x with `padding` zeros in front and enough behind for whole tiles.
static long pad_row(const flow_conv_size *s, long padding) {
  long tiles = (s->result + TILE - 1) / TILE;
  long row = tiles * TILE + s->dilation * (s->taps - 1);
  return row > s->length + padding ? row : s->length + padding;
}

static void pad_input(float *to, const float *x, const flow_conv_size *s, long padding, long row) {
  for (long c = 0; c < s->in; c++) {
    float *y = to + c * row;
    memset(y, 0, (size_t)padding * sizeof(float));
    memcpy(y + padding, x + c * s->length, (size_t)s->length * sizeof(float));
    memset(y + padding + s->length, 0, (size_t)(row - padding - s->length) * sizeof(float));
  }
}

static void direct(int threads, flow_conv_size s, float *y, const float *x, const float *w, long padding, float *work) {
  direct_job job = {.s = s, .x = work, .w = w, .row = pad_row(&s, padding)};
  job.outputs = (s.out + OUTPUTS - 1) / OUTPUTS;
  job.tiles = (s.result + TILE - 1) / TILE;
  for (long b = 0; b < s.batch; b++) {
    pad_input(work, x + b * s.in * s.length, &s, padding, job.row);
    job.y = y + b * s.out * s.result;
    long grain = 1 + 200000 / (s.in * s.taps * TILE * OUTPUTS);
    flow_parallel(threads, job.outputs * job.tiles, grain, direct_body, &job);
  }
}

typedef struct {
  flow_conv_size s;
  float *to;
  const float *from;
} column_job;

// Columns of one batch element: [in, taps, result].
static void columns_body(void *context, long begin, long end) {
  column_job *job = context;
  flow_conv_size s = job->s;
  for (long unit = begin; unit < end; unit++) {
    const float *x = job->from + unit / s.taps * s.length;
    float *y = job->to + unit * s.result;
    long shift = unit % s.taps * s.dilation - s.padding;
    for (long t = 0; t < s.result; t++) {
      long i = t * s.stride + shift;
      y[t] = i >= 0 && i < s.length ? x[i] : 0;
    }
  }
}

// The transpose: adds columns [in, taps, result] back to x, a channel at a time.
static void fold_body(void *context, long begin, long end) {
  column_job *job = context;
  flow_conv_size s = job->s;
  for (long c = begin; c < end; c++) {
    float *x = job->to + c * s.length;
    memset(x, 0, (size_t)s.length * sizeof(float));
    for (long k = 0; k < s.taps; k++) {
      const float *y = job->from + (c * s.taps + k) * s.result;
      long shift = k * s.dilation - s.padding;
      for (long t = 0; t < s.result; t++) {
        long i = t * s.stride + shift;
        if (i >= 0 && i < s.length) x[i] += y[t];
      }
    }
  }
}

/// Handles what has nothing to compute: an empty result, or one that is a sum of nothing.
static int is_trivial(float *result, long count, long terms) {
  if (count > 0 && terms == 0) memset(result, 0, (size_t)count * sizeof(float));
  return count == 0 || terms == 0;
}

void flow_conv(int threads, flow_conv_size s, float *y, const float *x, const float *w, float *work) {
  if (is_trivial(y, s.batch * s.out * s.result, s.in)) return;
  if (s.stride == 1) {
    direct(threads, s, y, x, w, s.padding, work);
    return;
  }
  for (long b = 0; b < s.batch; b++) {
    column_job job = {s, work, x + b * s.in * s.length};
    flow_parallel(threads, s.in * s.taps, 1 + 4096 / (s.result + 1), columns_body, &job);
    flow_gemm(threads, 0, 0, s.out, s.result, s.in * s.taps, 1, w, 0, work, 0, y + b * s.out * s.result);
  }
}

void flow_conv_back(int threads, flow_conv_size s, float *x, const float *y, const float *w, float *work) {
  if (is_trivial(x, s.batch * s.in * s.length, s.out * s.result)) return;
  long size = s.out * s.in * s.taps;
  if (s.stride == 1) {
    // The transpose of a stride-1 convolution is the convolution with the mirrored, transposed weight.
    long reach = s.dilation * (s.taps - 1);
    for (long o = 0; o < s.out; o++)
      for (long c = 0; c < s.in; c++)
        for (long k = 0; k < s.taps; k++)
          work[(c * s.out + o) * s.taps + k] = w[(o * s.in + c) * s.taps + s.taps - 1 - k];
    flow_conv_size t = s;
    t.in = s.out;
    t.out = s.in;
    t.length = s.result;
    t.result = s.length;
    if (reach >= s.padding) {
      direct(threads, t, x, y, work, reach - s.padding, work + (size + 15) / 16 * 16);
      return;
    }
  }
  for (long b = 0; b < s.batch; b++) {
    flow_gemm(threads, 1, 0, s.in * s.taps, s.result, s.out, 1, w, 0, y + b * s.out * s.result, 0, work);
    column_job job = {s, x + b * s.in * s.length, work};
    flow_parallel(threads, s.in, 1, fold_body, &job);
  }
}

typedef struct {
  flow_conv_size s;
  float *w;
  const float *x, *y;  // x: padded rows of `row` floats
  long row;
  float beta;
} weight_job;

enum { SIDE = 4, SPAN = 1024 };

/// The gradients of 4 x 4 weights (outputs o.., inputs c..; clamped at the ends) for every tap: products summed over
/// time in 16 lanes, a span of time after another so that the eight rows stay in L1.
FLOW_CLONES static void weight_square(const weight_job *job, long o, long c, float *sums) {
  const flow_conv_size *s = &job->s;
  const float *g[SIDE], *x[SIDE];
  for (int i = 0; i < SIDE; i++) {
    g[i] = job->y + (o + i < s->out ? o + i : s->out - 1) * s->result;
    x[i] = job->x + (c + i < s->in ? c + i : s->in - 1) * job->row;
  }
  memset(sums, 0, (size_t)(s->taps * SIDE * SIDE * 16) * sizeof(float));
  for (long start = 0; start < s->result; start += SPAN) {
    long end = s->result - start < SPAN ? s->result : start + SPAN, whole = start + (end - start) / 16 * 16;
    for (long k = 0; k < s->taps; k++) {
      block *sum = (block *)(sums + k * SIDE * SIDE * 16), acc[SIDE][SIDE];
      for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) acc[i][j] = sum[i * SIDE + j];
      long d = k * s->dilation;
      for (long t = start; t < whole; t += 16) {
        block v[SIDE];
        for (int j = 0; j < SIDE; j++) v[j] = *(const block *)(x[j] + t + d);
        for (int i = 0; i < SIDE; i++) {
          block u = *(const block *)(g[i] + t);
          for (int j = 0; j < SIDE; j++) acc[i][j] += u * v[j];
        }
      }
      for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) sum[i * SIDE + j] = acc[i][j];
      float *lanes = (float *)sum;
      for (long t = whole; t < end; t++)
        for (int i = 0; i < SIDE; i++)
          for (int j = 0; j < SIDE; j++) lanes[(i * SIDE + j) * 16] += g[i][t] * x[j][t + d];
    }
  }
}

static void weight_body(void *context, long begin, long end) {
  weight_job *job = context;
  flow_conv_size s = job->s;
  long columns = (s.in + SIDE - 1) / SIDE;
  float *sums = flow_scratch(2, (size_t)(s.taps * SIDE * SIDE * 16));
  for (long unit = begin; unit < end; unit++) {
    long o = unit / columns * SIDE, c = unit % columns * SIDE;
    weight_square(job, o, c, sums);
    for (int i = 0; i < SIDE && o + i < s.out; i++)
      for (int j = 0; j < SIDE && c + j < s.in; j++)
        for (long k = 0; k < s.taps; k++) {
          const float *lanes = sums + ((k * SIDE + i) * SIDE + j) * 16;
          float total = 0;
          for (int l = 0; l < 16; l++) total += lanes[l];
          float *w = job->w + ((o + i) * s.in + c + j) * s.taps + k;
          *w = (job->beta == 0 ? 0 : *w) + total;
        }
  }
}

void flow_conv_weight(int threads, flow_conv_size s, float *w, const float *x, const float *y, float *work) {
  if (is_trivial(w, s.out * s.in * s.taps, s.batch * s.result)) return;
  for (long b = 0; b < s.batch; b++) {
    const float *from = x + b * s.in * s.length, *g = y + b * s.out * s.result;
    weight_job job = {.s = s, .w = w, .y = g, .beta = b == 0 ? 0 : 1};
    if (s.stride == 1) {
      job.row = pad_row(&s, s.padding);
      job.x = work;
      pad_input(work, from, &s, s.padding, job.row);
      long squares = ((s.out + SIDE - 1) / SIDE) * ((s.in + SIDE - 1) / SIDE);
      flow_parallel(threads, squares, 1 + 20000 / (s.taps * s.result), weight_body, &job);
    } else {
      column_job columns = {s, work, from};
      flow_parallel(threads, s.in * s.taps, 1 + 4096 / (s.result + 1), columns_body, &columns);
      flow_blas_sgemm(101, 111, 112, (int)s.out, (int)(s.in * s.taps), (int)s.result, 1, g, (int)s.result, work,
                  (int)s.result, b == 0 ? 0 : 1, w, (int)(s.in * s.taps));
    }
  }
}
