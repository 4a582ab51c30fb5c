#include <math.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

enum { GRAIN = 1 << 14 };

typedef struct {
  int function;
  float *y;
  const float *x;
  float scale, offset;
} unary_job;

// y is x or apart from it, so the compiler need not test for overlap (its scalar fallback would run in place).
#define LOOP(expression)                 \
  _Pragma("clang loop vectorize(assume_safety)") \
  for (long i = 0; i < count; i++) {     \
    float v = x[i];                      \
    y[i] = (expression);                 \
  }                                      \
  break

FLOW_CLONES static void unary_range(int function, float *y, const float *x, long count) {
  switch (function) {
    case 0: LOOP(-v);
    case 1: LOOP(flow_exp(v));
    case 2: LOOP(flow_log(v));
    case 3: LOOP(__builtin_sqrtf(v));
    case 4: LOOP(1.0f / v);
    case 5:
      if (flow_within(x, count, 1e4f)) { LOOP(flow_sin(v)); }
      LOOP(sinf(v));
    case 6:
      if (flow_within(x, count, 1e4f)) { LOOP(flow_cos(v)); }
      LOOP(cosf(v));
    case 7: LOOP(flow_tanh(v));
    case 8: LOOP(flow_sigmoid(v));
    case 9: LOOP(v * flow_sigmoid(v));
    case 10: LOOP(__builtin_fabsf(v));
    case 11: LOOP(v * v);
    case 12: LOOP(v > 0 ? 1.0f : (v < 0 ? -1.0f : 0.0f));
    case 13: LOOP(v < 0 ? 0.0f : v);
    case 14: LOOP(v > 0 ? 1.0f : 0.0f);
    case 15: LOOP(flow_softplus(v));
    case 16: LOOP(1.0f / __builtin_sqrtf(v));
    case 17: LOOP(__builtin_floorf(v));
    case 18: LOOP(__builtin_rintf(v));
    case 19: LOOP(flow_erf(v));
    default: break;
  }
}

void flow_unary_block(int function, float *y, const float *x, long count) { unary_range(function, y, x, count); }

static void unary_body(void *context, long begin, long end) {
  unary_job *job = context;
  unary_range(job->function, job->y + begin, job->x + begin, end - begin);
}

void flow_unary(int threads, int function, float *y, const float *x, long count) {
  unary_job job = {.function = function, .y = y, .x = x};
  flow_parallel(threads, count, GRAIN, unary_body, &job);
}

FLOW_CLONES static void affine_range(float *y, const float *x, float scale, float offset, long count) {
#pragma clang loop vectorize(assume_safety)
  for (long i = 0; i < count; i++) y[i] = x[i] * scale + offset;
}

void flow_affine_block(float *y, const float *x, float scale, float offset, long count) {
  affine_range(y, x, scale, offset, count);
}

static void affine_body(void *context, long begin, long end) {
  unary_job *job = context;
  affine_range(job->y + begin, job->x + begin, job->scale, job->offset, end - begin);
}

void flow_affine(int threads, float *y, const float *x, float scale, float offset, long count) {
  unary_job job = {.y = y, .x = x, .scale = scale, .offset = offset};
  flow_parallel(threads, count, GRAIN, affine_body, &job);
}

// y is an operand or apart from it, as in LOOP.
#define PAIR_LOOP _Pragma("clang loop vectorize(assume_safety)") for (long i = 0; i < count; i++)
#define PAIRS(expression)                                              \
  if (sa == 1 && sb == 1) {                                            \
    PAIR_LOOP { float p = a[i], q = b[i]; y[i] = (expression); } \
  } else if (sa == 1) {                                                \
    float q = *b;                                                      \
    PAIR_LOOP { float p = a[i]; y[i] = (expression); } \
  } else if (sb == 1) {                                                \
    float p = *a;                                                      \
    PAIR_LOOP { float q = b[i]; y[i] = (expression); } \
  } else {                                                             \
    float p = *a, q = *b;                                              \
    PAIR_LOOP y[i] = (expression);              \
  }                                                                    \
  break

/// Inner strides are 0 or 1.
FLOW_CLONES static void binary_range(int function, float *y, const float *a, long sa, const float *b, long sb,
                                     long count) {
  switch (function) {
    case 0: PAIRS(p + q);
    case 1: PAIRS(p - q);
    case 2: PAIRS(p * q);
    case 3: PAIRS(p / q);
    case 4: PAIRS(p > q || p != p ? p : q);
    case 5: PAIRS(p < q || p != p ? p : q);
    case 6: PAIRS(powf(p, q));
    case 7: PAIRS(p > q ? 1.0f : 0.0f);
    case 8: PAIRS(p >= q ? 1.0f : 0.0f);
    case 9: PAIRS(p == q ? 1.0f : 0.0f);
    case 10: PAIRS(q != 0 ? p : 0.0f);
    default: break;
  }
}

void flow_binary_block(int function, float *y, const float *a, long sa, const float *b, long sb, long count) {
  binary_range(function, y, a, sa, b, sb, count);
}

typedef struct {
  int function, rank;
  float *y;
  const float *a, *b;
  const long *shape, *sa, *sb;
} strided_job;

// Ranges are over rows of the innermost axis.
static void binary_body(void *context, long begin, long end) {
  strided_job *job = context;
  int last = job->rank - 1;
  long width = job->shape[last];
  for (long row = begin; row < end; row++) {
    long rest = row, pa = 0, pb = 0;
    for (int axis = last - 1; axis >= 0; axis--) {
      long i = rest % job->shape[axis];
      rest /= job->shape[axis];
      pa += i * job->sa[axis];
      pb += i * job->sb[axis];
    }
    binary_range(job->function, job->y + row * width, job->a + pa, job->sa[last], job->b + pb, job->sb[last], width);
  }
}

void flow_binary(int threads, int function, float *y, const float *a, const float *b, int rank, const long *shape,
                 const long *stride_a, const long *stride_b) {
  strided_job job = {function, rank, y, a, b, shape, stride_a, stride_b};
  long rows = 1;
  for (int axis = 0; axis < rank - 1; axis++) rows *= shape[axis];
  if (rows == 1 && shape[0] > GRAIN && rank == 1) {
    // A long single row: cut it in equal pieces, as rows of a matrix.
    long pieces = shape[0] / GRAIN, head = pieces * GRAIN;
    long shape2[2] = {pieces, GRAIN};
    long sa2[2] = {stride_a[0] * GRAIN, stride_a[0]}, sb2[2] = {stride_b[0] * GRAIN, stride_b[0]};
    strided_job split = {function, 2, y, a, b, shape2, sa2, sb2};
    flow_parallel(threads, pieces, 1, binary_body, &split);
    binary_range(function, y + head, a + head * stride_a[0], stride_a[0], b + head * stride_b[0], stride_b[0],
                 shape[0] - head);
    return;
  }
  long grain = GRAIN / (shape[rank - 1] > 0 ? shape[rank - 1] : 1);
  flow_parallel(threads, rows, grain, binary_body, &job);
}

typedef struct {
  float *p_out, *m_out, *v_out;
  const float *p, *g, *m, *v;
  float rate, correction1, correction2, factor, beta1, beta2, epsilon, decay;
} adamw_job;

FLOW_CLONES static void adamw_range(const adamw_job *job, long begin, long end) {
  float b1 = job->beta1, b2 = job->beta2, keep = 1.0f - job->rate * job->decay;
  float step = job->rate / job->correction1, root = 1.0f / __builtin_sqrtf(job->correction2);
  float factor = job->factor, epsilon = job->epsilon;
  float *p_out = job->p_out, *m_out = job->m_out, *v_out = job->v_out;
  const float *p_in = job->p, *g_in = job->g, *m_in = job->m, *v_in = job->v;
  // Each output is its input or apart from all of them.
#pragma clang loop vectorize(assume_safety)
  for (long i = begin; i < end; i++) {
    float g = g_in[i] * factor;
    float m = m_in[i] + (1.0f - b1) * (g - m_in[i]);
    float v = b2 * v_in[i] + (1.0f - b2) * g * g;
    m_out[i] = m;
    v_out[i] = v;
    p_out[i] = p_in[i] * keep - step * m / (__builtin_sqrtf(v) * root + epsilon);
  }
}

static void adamw_body(void *context, long begin, long end) { adamw_range(context, begin, end); }

void flow_adamw(int threads, float *p_out, float *m_out, float *v_out, const float *p, const float *g, const float *m,
                const float *v, const float *scalars, float beta1, float beta2, float epsilon, float decay,
                long count) {
  adamw_job job = {p_out, m_out, v_out, p, g, m, v, scalars[0], scalars[1], scalars[2], scalars[3],
                   beta1, beta2, epsilon, decay};
  flow_parallel(threads, count, GRAIN, adamw_body, &job);
}
