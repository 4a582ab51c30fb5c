#include "include/flow_kernels.h"
#include <math.h>
#include <string.h>

// Sums over alignments are kept as logarithms in double precision: those of a thousand steps span more than a float's range.

typedef struct {
  const float *x;
  const int *labels;
  float *losses, *occupancy, *work;
  long steps, classes, width;
} ctc_job;

static double log_sum(const double *values, int count) {
  double most = -INFINITY, sum = 0;
  for (int i = 0; i < count; i++)
    if (values[i] > most || isnan(values[i])) most = values[i];
  if (most == -INFINITY) return most;
  for (int i = 0; i < count; i++) sum += exp(values[i] - most);
  return most + log(sum);
}

/// Whether a state may come right after the one but one before.
static int skips(const int *states, long s) { return s >= 2 && states[s] && states[s] != states[s - 2]; }

static void ctc_row(const ctc_job *job, long row) {
  long steps = job->steps, classes = job->classes, most = 2 * job->width + 1, count = 1;
  double *forward = (double *)(job->work + row * (2 * most * (steps + 2) + most + 1));
  double *now = forward + most * steps, *after = now + most;
  int *states = (int *)(after + most);
  const int *labels = job->labels + row * job->width;
  const float *x = job->x + row * steps * classes;
  float *occupancy = job->occupancy + row * steps * classes;
  states[0] = 0;
  for (long i = 0; i < job->width; i++)
    if (labels[i] > 0) states[count] = labels[i], states[count + 1] = 0, count += 2;

  for (long s = 0; s < count; s++) forward[s] = s < 2 ? x[states[s]] : -INFINITY;
  for (long t = 1; t < steps; t++) {
    const double *last = forward + (t - 1) * count;
    for (long s = 0; s < count; s++) {
      double from[3] = {last[s]};
      int parts = 1;
      if (s >= 1) from[parts++] = last[s - 1];
      if (skips(states, s)) from[parts++] = last[s - 2];
      forward[t * count + s] = log_sum(from, parts) + x[t * classes + states[s]];
    }
  }
  const double *end = forward + (steps - 1) * count;
  double total = count > 1 ? log_sum(end + count - 2, 2) : log_sum(end, 1);
  memset(occupancy, 0, (size_t)(steps * classes) * sizeof *occupancy);
  // Labels that can't come in so many steps are left out.
  job->losses[row] = total == -INFINITY ? 0 : (float)-total;
  if (total == -INFINITY) return;

  for (long t = steps - 1; t >= 0; t--) {
    for (long s = 0; s < count; s++) {
      if (t == steps - 1) {
        now[s] = s >= count - 2 ? 0 : -INFINITY;
      } else {
        const float *next = x + (t + 1) * classes;
        double to[3] = {after[s] + next[states[s]]};
        int parts = 1;
        if (s + 1 < count) to[parts++] = after[s + 1] + next[states[s + 1]];
        if (s + 2 < count && skips(states, s + 2)) to[parts++] = after[s + 2] + next[states[s + 2]];
        now[s] = log_sum(to, parts);
      }
      occupancy[t * classes + states[s]] += (float)exp(forward[t * count + s] + now[s] - total);
    }
    double *swap = now;
    now = after, after = swap;
  }
}

static void ctc_body(void *context, long begin, long end) {
  for (long row = begin; row < end; row++) ctc_row(context, row);
}

void flow_ctc(int threads, float *losses, float *occupancy, const float *x, const int *labels, float *work, long rows,
              long steps, long classes, long width) {
  ctc_job job = {x, labels, losses, occupancy, work, steps, classes, width};
  flow_parallel(threads, rows, 1, ctc_body, &job);
}
