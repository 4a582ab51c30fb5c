#include <stdint.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

enum { GRAIN = 1 << 15, MOST_PARTIALS = 64 };

static long range_rows(long rows, long width, long block) {
  long grain = GRAIN / width > 1 ? GRAIN / width : 1;
  if ((rows + grain - 1) / grain > MOST_PARTIALS) grain = (rows + MOST_PARTIALS - 1) / MOST_PARTIALS;
  return (grain + block - 1) / block * block;
}

long flow_fused_ranges(long rows, long width, long block) {
  long grain = range_rows(rows, width, block);
  return (rows + grain - 1) / grain;
}

/// A full register with a small one: a row at a time.
static void apply_rows(int function, float *y, const float *a, int small_a, const float *b, int small_b, long rows,
                       long width) {
  for (long r = 0; r < rows; r++)
    flow_binary_block(function, y + r * width, small_a ? a + r : a + r * width, small_a ? 0 : 1,
                      small_b ? b + r : b + r * width, small_b ? 0 : 1, width);
}

/// Sums and maxima in 32 lanes, then the lanes by halves: the same for every build of the function.
FLOW_CLONES static float run_sum(const float *x, long count) {
  float lane[32] = {0};
  long i = 0;
  for (; i + 32 <= count; i += 32)
    for (int k = 0; k < 32; k++) lane[k] += x[i + k];
  for (int k = 0; i < count; i++, k++) lane[k] += x[i];
  for (int half = 16; half > 0; half /= 2)
    for (int k = 0; k < half; k++) lane[k] += lane[k + half];
  return lane[0];
}

FLOW_CLONES static float run_product(const float *x, const float *y, long count) {
  float lane[32] = {0};
  long i = 0;
  for (; i + 32 <= count; i += 32)
    for (int k = 0; k < 32; k++) lane[k] += x[i + k] * y[i + k];
  for (int k = 0; i < count; i++, k++) lane[k] += x[i] * y[i];
  for (int half = 16; half > 0; half /= 2)
    for (int k = 0; k < half; k++) lane[k] += lane[k + half];
  return lane[0];
}

FLOW_CLONES static void run_exp_below(float *y, const float *x, float top, long count) {
#pragma clang loop vectorize(assume_safety)
  for (long i = 0; i < count; i++) y[i] = flow_exp(x[i] - top);
}

FLOW_CLONES static float run_max(const float *x, long count) {
  float lane[32];
  for (int k = 0; k < 32; k++) lane[k] = x[0];
  long i = 0;
  for (; i + 32 <= count; i += 32)
    for (int k = 0; k < 32; k++) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
  for (int k = 0; i < count; i++, k++) lane[k] = x[i] > lane[k] ? x[i] : lane[k];
  for (int half = 16; half > 0; half /= 2)
    for (int k = 0; k < half; k++) lane[k] = lane[k + half] > lane[k] ? lane[k + half] : lane[k];
  return lane[0];
}

FLOW_CLONES static void add_rows(float *sum, const float *x, long rows, long width) {
  for (long r = 0; r < rows; r++)
    for (long i = 0; i < width; i++) sum[i] += x[r * width + i];
}

FLOW_CLONES static void turn_rows(float *y, const float *x, long rows, long half) {
  for (long r = 0; r < rows; r++, x += 2 * half, y += 2 * half) {
    for (long i = 0; i < half; i++) y[i] = -x[half + i];
    memcpy(y + half, x, (size_t)half * sizeof(float));
  }
}

static int is_small(int kind) {
  return kind == FLOW_REGISTER_SMALL || kind == FLOW_REGISTER_IN_SMALL || kind == FLOW_REGISTER_STRIDED_SMALL ||
         kind == FLOW_REGISTER_OUT_SMALL;
}

/// Elements [start, start + n) of the strided register; a pointer into memory where they lie together, else `scratch`.
static float *gather(const flow_register *reg, long start, long n, float *scratch) {
  int last = reg->rank - 1;
  long index[6], from = 0, rest = start, length = reg->shape[last], step = reg->stride[last];
  for (int axis = last; axis >= 0; axis--) {
    index[axis] = rest % reg->shape[axis];
    rest /= reg->shape[axis];
    from += index[axis] * reg->stride[axis];
  }
  if (step == 1 && length - index[last] >= n) return reg->memory + from;
  for (long done = 0; done < n;) {
    long run = length - index[last] < n - done ? length - index[last] : n - done;
    const float *x = reg->memory + from;
    float *y = scratch + done;
    if (step == 0) {
      float value = *x;
      for (long i = 0; i < run; i++) y[i] = value;
    } else if (step == 1) {
      memcpy(y, x, (size_t)run * sizeof(float));
    } else {
      for (long i = 0; i < run; i++) y[i] = x[i * step];
    }
    done += run;
    from -= index[last] * step;
    index[last] = 0;
    for (int axis = last - 1; axis >= 0; axis--) {
      from += reg->stride[axis];
      if (++index[axis] < reg->shape[axis]) break;
      from -= reg->shape[axis] * reg->stride[axis];
      index[axis] = 0;
    }
  }
  return scratch;
}

// As RowProgram.streamed.
enum { STREAM = 1 << 22 };
typedef float line __attribute__((vector_size(64)));

/// Copies past the caches, which spares reading the lines that are overwritten; for results that no cache would hold.
FLOW_CLONES static void stream(float *to, const float *from, long count) {
  long i = 0;
  for (; i < count && ((uintptr_t)(to + i) & 63) != 0; i++) to[i] = from[i];
  for (; i + 16 <= count; i += 16) {
    line value;
    memcpy(&value, from + i, sizeof value);
    __builtin_nontemporal_store(value, (line *)(to + i));
  }
  for (; i < count; i++) to[i] = from[i];
}

/// Whether an output is large and lies in no input's memory, whose lines are at hand anyway.
static int is_streamed(const flow_fused_plan *plan, const flow_register *reg) {
  if (reg->kind != FLOW_REGISTER_OUT || plan->rows * plan->width < STREAM) return 0;
  for (int k = 0; k < plan->registers; k++)
    if (plan->reg[k].kind == FLOW_REGISTER_IN && plan->reg[k].memory == reg->memory) return 0;
  return 1;
}

typedef struct {
  const flow_fused_plan *plan;
  long grain;
  unsigned char streamed[FLOW_FUSED_REGISTERS];
} fused_job;

static void execute(const flow_fused_plan *plan, float *const *place, long rows, long range, int first) {
  long width = plan->width, n = rows * width;
  for (int k = 0; k < plan->instructions; k++) {
    const flow_instruction *job = plan->instruction + k;
    const flow_register *to = plan->reg + job->to, *from = plan->reg + job->a;
    float *y = place[job->to];
    const float *a = place[job->a];
    int small = is_small(from->kind);
    long count = small ? rows : n;
    if (job->op == FLOW_ROW_SUM || job->op == FLOW_ROW_MAX) {
      for (long r = 0; r < rows; r++)
        y[r] = job->op == FLOW_ROW_SUM ? run_sum(a + r * width, width) : run_max(a + r * width, width);
    } else if (job->op == FLOW_ROW_PRODUCT) {
      for (long r = 0; r < rows; r++) y[r] = run_product(a + r * width, place[job->b] + r * width, width);
    } else if (job->op == FLOW_EXP_BELOW) {
      for (long r = 0; r < rows; r++) run_exp_below(y + r * width, a + r * width, place[job->b][r], width);
    } else if (job->op == FLOW_TURN) {
      turn_rows(y, a, rows, width / 2);
    } else if (job->op == FLOW_EXPAND) {
      for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i++) y[r * width + i] = a[r];
    } else if (job->op == FLOW_COLUMN_SUM) {
      float *sum = to->partial + range * width;
      if (first) memset(sum, 0, (size_t)width * sizeof(float));
      add_rows(sum, a, rows, width);
    } else if (job->op == FLOW_TOTAL_SUM) {
      to->partial[range] = (first ? 0 : to->partial[range]) + run_sum(a, count);
    } else if (job->op == FLOW_AFFINE) {
      flow_affine_block(y, a, job->scale, job->offset, count);
    } else if (job->op < FLOW_BINARY) {
      flow_unary_block(job->op, y, a, count);
    } else {
      const float *b = place[job->b];
      int small_b = is_small(plan->reg[job->b].kind), function = job->op - FLOW_BINARY;
      if (small == small_b)
        flow_binary_block(function, y, a, 1, b, 1, count);
      else
        apply_rows(function, y, a, small, b, small_b, rows, width);
    }
  }
}

static void fused_body(void *context, long begin, long end) {
  const fused_job *job = context;
  const flow_fused_plan *plan = job->plan;
  long width = plan->width, size = (plan->block * width + 15) / 16 * 16;
  float *scratch = flow_scratch(3, (size_t)(size * plan->slots));
  float *place[FLOW_FUSED_REGISTERS];
  for (long row = begin; row < end; row += plan->block) {
    long rows = end - row < plan->block ? end - row : plan->block;
    for (int k = 0; k < plan->registers; k++) {
      const flow_register *reg = plan->reg + k;
      switch (reg->kind) {
        case FLOW_REGISTER_IN:
        case FLOW_REGISTER_OUT:
          place[k] = job->streamed[k] ? scratch + reg->slot * size : reg->memory + row * width;
          break;
        case FLOW_REGISTER_IN_SMALL:
        case FLOW_REGISTER_OUT_SMALL: place[k] = reg->memory + row; break;
        case FLOW_REGISTER_STRIDED:
          place[k] = gather(reg, row * width, rows * width, scratch + reg->slot * size);
          break;
        case FLOW_REGISTER_STRIDED_SMALL: place[k] = gather(reg, row, rows, scratch + reg->slot * size); break;
        case FLOW_REGISTER_FULL:
        case FLOW_REGISTER_SMALL: place[k] = scratch + reg->slot * size; break;
        default: place[k] = reg->memory; break;
      }
    }
    execute(plan, place, rows, begin / job->grain, row == begin);
    for (int k = 0; k < plan->registers; k++)
      if (job->streamed[k]) stream(plan->reg[k].memory + row * width, place[k], rows * width);
  }
}

void flow_fused(int threads, const flow_fused_plan *plan) {
  fused_job job = {plan, range_rows(plan->rows, plan->width, plan->block), {0}};
  for (int k = 0; k < plan->registers; k++) job.streamed[k] = (unsigned char)is_streamed(plan, plan->reg + k);
  flow_parallel(threads, plan->rows, job.grain, fused_body, &job);
  long ranges = (plan->rows + job.grain - 1) / job.grain;
  for (int k = 0; k < plan->registers; k++) {
    const flow_register *reg = plan->reg + k;
    if (reg->kind == FLOW_REGISTER_COLUMNS) {
      memset(reg->memory, 0, (size_t)plan->width * sizeof(float));
      add_rows(reg->memory, reg->partial, ranges, plan->width);
    } else if (reg->kind == FLOW_REGISTER_TOTAL) {
      *reg->memory = run_sum(reg->partial, ranges);
    }
  }
}
