#include "include/flow_kernels.h"
#include "vector_math.h"

// A step's product reads the recurrent weight once, and the units computed from it are finished at once. Units are split
// in blocks that depend on the sizes alone; the weight is laid out by blocks beforehand, so that a block's product runs
// through memory.

typedef float block __attribute__((vector_size(64), aligned(4)));
enum { UNITS = 64, GATES = 4, QUAD = 4, COLUMNS = 32 };

typedef struct {
  flow_lstm_size s;
  float *h, *c, *gates, *dc;
  const float *w, *before_h, *before_c, *x;
  const float *gh, *gc, *now, *after;
} lstm_job;

/// to[i][j] = the sum over r of d[i][r] w[r * stride + j].
FLOW_CLONES static void product(float to[QUAD][COLUMNS], const float *const d[QUAD], const float *w, long rows,
                                long stride) {
  block sum[QUAD][2] = {{{0}}};
  for (long r = 0; r < rows; r++, w += stride) {
    block left = *(const block *)w, right = *(const block *)(w + 16);
    for (int i = 0; i < QUAD; i++) {
      sum[i][0] += left * d[i][r];
      sum[i][1] += right * d[i][r];
    }
  }
  memcpy(to, sum, sizeof sum);
}

/// Rows b.. (clamped to the last) of [batch, width].
static void rows_of(const float *d[QUAD], const float *x, long b, long batch, long width) {
  for (long i = 0; i < QUAD; i++) d[i] = x + (b + i < batch ? b + i : batch - 1) * width;
}

/// Gates from their sums, and the new state, for units [begin, end) of batch element b.
FLOW_CLONES static void activate(const lstm_job *job, long b, long begin, long end) {
  long n = job->s.units;
  float *gate = job->gates + b * GATES * n, *h = job->h + b * n, *c = job->c + b * n;
  const float *before = job->before_c + b * n;
#pragma clang loop vectorize(assume_safety)
  for (long u = begin; u < end; u++) {
    float i = flow_sigmoid(gate[u]), f = flow_sigmoid(gate[n + u]);
    float g = flow_tanh(gate[2 * n + u]), o = flow_sigmoid(gate[3 * n + u]);
    float next = f * before[u] + i * g;
    gate[u] = i, gate[n + u] = f, gate[2 * n + u] = g, gate[3 * n + u] = o;
    c[u] = next;
    h[u] = o * flow_tanh(next);
  }
}

static void forward_body(void *context, long begin, long end) {
  lstm_job *job = context;
  long n = job->s.units;
  for (long piece = begin; piece < end; piece++) {
    long first = piece * UNITS, last = first + UNITS < n ? first + UNITS : n;
    for (long b = 0; b < job->s.batch; b += QUAD) {
      const float *h[QUAD];
      rows_of(h, job->before_h, b, job->s.batch, n);
      for (long j = 0; j < GATES * UNITS; j += COLUMNS) {
        float sums[QUAD][COLUMNS];
        long gate = j / UNITS, unit = first + j % UNITS;
        if (unit >= last) continue;
        product(sums, h, job->w + piece * n * GATES * UNITS + j, n, GATES * UNITS);
        for (long i = 0; i < QUAD && b + i < job->s.batch; i++)
          for (long u = unit; u < last && u < unit + COLUMNS; u++) {
            long at = ((b + i) * GATES + gate) * n + u;
            job->gates[at] = job->x[at] + sums[i][u - unit];
          }
      }
    }
    for (long b = 0; b < job->s.batch; b++) activate(job, b, first, last);
  }
}

static long pieces_of(long units) { return (units + UNITS - 1) / UNITS; }

static long grain_of(const flow_lstm_size *s) {
  return (double)s->batch * (double)s->units * (double)s->units < 5e4 ? pieces_of(s->units) : 1;
}

// The weight of a block of units: for each unit of the step before, its weights in all gates; 0 past the last unit.
static void pack_body(void *context, long begin, long end) {
  lstm_job *job = context;
  long n = job->s.units;
  for (long unit = begin; unit < end; unit++) {
    float *to = job->h + unit * GATES * UNITS;
    long r = unit % n, first = unit / n * UNITS;
    for (long j = 0; j < GATES * UNITS; j++) {
      long u = first + j % UNITS;
      to[j] = u < n ? job->w[(j / UNITS * n + u) * n + r] : 0;
    }
  }
}

void flow_lstm(int threads, flow_lstm_size s, float *h, float *c, float *gates, const float *x, const float *w,
               const float *h0, const float *c0) {
  long size = s.batch * s.units, pieces = pieces_of(s.units);
  float *packed = flow_scratch(2, (size_t)(pieces * UNITS * GATES * s.units));
  lstm_job job = {.s = s, .w = w, .before_h = h0, .before_c = c0, .h = packed};
  flow_parallel(threads, pieces * s.units, 64, pack_body, &job);
  job.w = packed;
  for (long step = 0; step < s.steps; step++) {
    long t = s.reverse ? s.steps - 1 - step : step;
    job.h = h + t * size, job.c = c + t * size;
    job.gates = gates + t * GATES * size, job.x = x + t * GATES * size;
    flow_parallel(threads, pieces, grain_of(&s), forward_body, &job);
    job.before_h = job.h, job.before_c = job.c;
  }
}

/// The gradients of the gates' sums of one step, for units [begin, end) of batch element b; dh is what comes from the
/// step after.
FLOW_CLONES static void step_back(const lstm_job *job, long b, long begin, long end, const float *dh) {
  long n = job->s.units;
  const float *gate = job->x + b * GATES * n, *c = job->now + b * n, *before = job->before_c + b * n;
  const float *gh = job->gh + b * n, *gc = job->gc + b * n;
  float *d = job->gates + b * GATES * n, *dc = job->dc + b * n;
#pragma clang loop vectorize(assume_safety)
  for (long u = begin; u < end; u++) {
    float i = gate[u], f = gate[n + u], g = gate[2 * n + u], o = gate[3 * n + u], bent = flow_tanh(c[u]);
    float h = gh[u] + dh[u - begin], flow = gc[u] + dc[u] + h * o * (1 - bent * bent);
    d[u] = flow * g * i * (1 - i);
    d[n + u] = flow * before[u] * f * (1 - f);
    d[2 * n + u] = flow * i * (1 - g * g);
    d[3 * n + u] = h * bent * o * (1 - o);
    dc[u] = flow * f;
  }
}

static void back_body(void *context, long begin, long end) {
  lstm_job *job = context;
  for (long piece = begin; piece < end; piece++) {
    long first = piece * UNITS, left = job->s.units - first, count = left < UNITS ? left : UNITS;
    for (long b = 0; b < job->s.batch; b += QUAD) {
      float dh[QUAD][UNITS] = {{0}};
      if (job->after != NULL) {
        const float *d[QUAD];
        rows_of(d, job->after, b, job->s.batch, GATES * job->s.units);
        for (long j = 0; j < count; j += COLUMNS) {
          float sums[QUAD][COLUMNS];
          product(sums, d, job->w + piece * GATES * job->s.units * UNITS + j, GATES * job->s.units, UNITS);
          for (int i = 0; i < QUAD; i++) memcpy(dh[i] + j, sums[i], sizeof sums[i]);
        }
      }
      for (long i = 0; i < QUAD && b + i < job->s.batch; i++) {
        if (job->gh != NULL)
          step_back(job, b + i, first, first + count, dh[i]);
        else
          memcpy(job->h + (b + i) * job->s.units + first, dh[i], (size_t)count * sizeof(float));
      }
    }
  }
}

// The weight of a block of units: for each gate, its weights in them; 0 past the last unit.
static void pack_back_body(void *context, long begin, long end) {
  lstm_job *job = context;
  long n = job->s.units;
  for (long unit = begin; unit < end; unit++) {
    long r = unit % (GATES * n), first = unit / (GATES * n) * UNITS;
    for (long u = 0; u < UNITS; u++) job->h[unit * UNITS + u] = first + u < n ? job->w[r * n + first + u] : 0;
  }
}

void flow_lstm_back(int threads, flow_lstm_size s, float *dx, float *dh0, float *dc0, const float *gh, const float *gc,
                    const float *w, const float *c0, const float *c, const float *gates) {
  long size = s.batch * s.units, pieces = pieces_of(s.units);
  float *packed = flow_scratch(2, (size_t)(pieces * UNITS * GATES * s.units));
  lstm_job job = {.s = s, .w = w, .dc = dc0, .h = packed};
  flow_parallel(threads, pieces * GATES * s.units, 64, pack_back_body, &job);
  job.w = packed, job.h = dh0;
  memset(dc0, 0, (size_t)size * sizeof(float));
  for (long step = s.steps - 1; step >= 0; step--) {
    long t = s.reverse ? s.steps - 1 - step : step;
    job.gates = dx + t * GATES * size, job.x = gates + t * GATES * size;
    job.now = c + t * size;
    job.before_c = step == 0 ? c0 : c + (s.reverse ? t + 1 : t - 1) * size;
    job.gh = gh + t * size, job.gc = gc + t * size;
    flow_parallel(threads, pieces, grain_of(&s), back_body, &job);
    job.after = job.gates;
  }
  job.gh = NULL;
  flow_parallel(threads, pieces, grain_of(&s), back_body, &job);
}
