#include "include/flow_kernels.h"
#include "vector_math.h"

// A step's product reads the recurrent weight once, and the units computed from it are finished at once. Units are split
// in blocks that depend on the sizes alone.

typedef float block __attribute__((vector_size(64), aligned(4)));
enum { UNITS = 64, GATES = 4, PAIR = 2 };

typedef struct {
  flow_lstm_size s;
  float *h, *c, *gates, *dc;
  const float *w, *before_h, *before_c, *x;
  const float *gh, *gc, *now, *after;
} lstm_job;

static float total(const block *v) {
  float lane[16];
  memcpy(lane, v, sizeof lane);
  for (int half = 8; half > 0; half /= 2)
    for (int k = 0; k < half; k++) lane[k] += lane[k + half];
  return lane[0];
}

/// The four gates of unit u for batch elements b and b + 1 (clamped): the recurrent weight's rows times h.
FLOW_CLONES static void unit_products(const lstm_job *job, long u, long b, float out[PAIR][GATES]) {
  long n = job->s.units, whole = n / 16 * 16;
  const float *h[PAIR], *w[GATES];
  for (int i = 0; i < PAIR; i++) h[i] = job->before_h + (b + i < job->s.batch ? b + i : b) * n;
  for (int k = 0; k < GATES; k++) w[k] = job->w + (k * n + u) * n;
  block sum[PAIR][GATES] = {{{0}}};
  for (long j = 0; j < whole; j += 16) {
    block v0 = *(const block *)(h[0] + j), v1 = *(const block *)(h[1] + j);
    for (int k = 0; k < GATES; k++) {
      block f = *(const block *)(w[k] + j);
      sum[0][k] += f * v0;
      sum[1][k] += f * v1;
    }
  }
  for (int i = 0; i < PAIR; i++)
    for (int k = 0; k < GATES; k++) {
      out[i][k] = total(&sum[i][k]);
      for (long j = whole; j < n; j++) out[i][k] += w[k][j] * h[i][j];
    }
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
    for (long b = 0; b < job->s.batch; b += PAIR)
      for (long u = first; u < last; u++) {
        float out[PAIR][GATES];
        unit_products(job, u, b, out);
        for (long i = 0; i < PAIR && b + i < job->s.batch; i++)
          for (long k = 0; k < GATES; k++) {
            long at = ((b + i) * GATES + k) * n + u;
            job->gates[at] = job->x[at] + out[i][k];
          }
      }
    for (long b = 0; b < job->s.batch; b++) activate(job, b, first, last);
  }
}

static long grain_of(const flow_lstm_size *s) {
  long pieces = (s->units + UNITS - 1) / UNITS;
  return (double)s->batch * (double)s->units * (double)s->units < 5e4 ? pieces : 1;
}

void flow_lstm(int threads, flow_lstm_size s, float *h, float *c, float *gates, const float *x, const float *w,
               const float *h0, const float *c0) {
  lstm_job job = {.s = s, .w = w, .before_h = h0, .before_c = c0};
  long size = s.batch * s.units;
  for (long step = 0; step < s.steps; step++) {
    long t = s.reverse ? s.steps - 1 - step : step;
    job.h = h + t * size, job.c = c + t * size;
    job.gates = gates + t * GATES * size, job.x = x + t * GATES * size;
    flow_parallel(threads, (s.units + UNITS - 1) / UNITS, grain_of(&s), forward_body, &job);
    job.before_h = job.h, job.before_c = job.c;
  }
}

/// to[i][j] = the sum over the 4n gates r of after[b + i][r] w[r][first + j], j < UNITS (or fewer).
FLOW_CLONES static void back_products(const lstm_job *job, long b, long first, long count, float to[PAIR][UNITS]) {
  long n = job->s.units;
  const float *d[PAIR];
  for (int i = 0; i < PAIR; i++) d[i] = job->after + (b + i < job->s.batch ? b + i : b) * GATES * n;
  if (count == UNITS) {
    block sum[PAIR][4] = {{{0}}};
    for (long r = 0; r < GATES * n; r++) {
      const float *w = job->w + r * n + first;
      for (int q = 0; q < 4; q++) {
        block v = *(const block *)(w + 16 * q);
        for (int i = 0; i < PAIR; i++) sum[i][q] += v * d[i][r];
      }
    }
    memcpy(to, sum, sizeof sum);
    return;
  }
  memset(to, 0, sizeof(float[PAIR][UNITS]));
  for (long r = 0; r < GATES * n; r++)
    for (int i = 0; i < PAIR; i++)
      for (long j = 0; j < count; j++) to[i][j] += d[i][r] * job->w[r * n + first + j];
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
    for (long b = 0; b < job->s.batch; b += PAIR) {
      float dh[PAIR][UNITS] = {{0}};
      if (job->after != NULL) back_products(job, b, first, count, dh);
      for (long i = 0; i < PAIR && b + i < job->s.batch; i++) {
        if (job->gh != NULL)
          step_back(job, b + i, first, first + count, dh[i]);
        else
          memcpy(job->h + (b + i) * job->s.units + first, dh[i], (size_t)count * sizeof(float));
      }
    }
  }
}

void flow_lstm_back(int threads, flow_lstm_size s, float *dx, float *dh0, float *dc0, const float *gh, const float *gc,
                    const float *w, const float *c0, const float *c, const float *gates) {
  lstm_job job = {.s = s, .w = w, .dc = dc0, .h = dh0};
  long size = s.batch * s.units, pieces = (s.units + UNITS - 1) / UNITS;
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
