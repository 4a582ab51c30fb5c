#include "include/flow_kernels.h"
#include "vector_math.h"

// Elements moved as they are, whatever they mean; only their size matters.

enum { GRAIN = 16384 };

typedef struct {
  int rank, size;
  char *y;
  const char *x;
  const long *shape, *stride;
} copy_job;

#define STRIDED(type)                                                          \
  FLOW_CLONES static void strided_##type(type *y, const type *x, long count, long step) { \
    for (long i = 0; i < count; i++) y[i] = x[i * step];                       \
  }
STRIDED(uint8_t)
STRIDED(uint16_t)
STRIDED(uint32_t)

// Ranges are over rows of the innermost axis.
static void copy_body(void *context, long begin, long end) {
  copy_job *job = context;
  int last = job->rank - 1;
  long width = job->shape[last], step = job->stride[last], size = job->size;
  for (long row = begin; row < end; row++) {
    long rest = row, from = 0;
    for (int axis = last - 1; axis >= 0; axis--) {
      from += rest % job->shape[axis] * job->stride[axis];
      rest /= job->shape[axis];
    }
    const void *x = job->x + from * size;
    void *y = job->y + row * width * size;
    if (step == 1)
      memcpy(y, x, (size_t)(width * size));
    else if (size == 1)
      strided_uint8_t(y, x, width, step);
    else if (size == 2)
      strided_uint16_t(y, x, width, step);
    else
      strided_uint32_t(y, x, width, step);
  }
}

static void dense_body(void *context, long begin, long end) {
  copy_job *job = context;
  memcpy(job->y + begin * job->size, job->x + begin * job->size, (size_t)((end - begin) * job->size));
}

void flow_copy(int threads, void *y, const void *x, int size, int rank, const long *shape, const long *stride) {
  copy_job job = {rank, size, y, x, shape, stride};
  if (rank == 1 && stride[0] == 1) return flow_parallel(threads, shape[0], GRAIN, dense_body, &job);
  long rows = 1;
  for (int axis = 0; axis < rank - 1; axis++) rows *= shape[axis];
  flow_parallel(threads, rows, GRAIN / (shape[rank - 1] > 0 ? shape[rank - 1] : 1), copy_body, &job);
}
