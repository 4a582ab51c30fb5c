#include <stdlib.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

// Two real frames are the real and the imaginary part of one complex transform.

typedef struct {
  float *re, *im, *frames;
  const float *x, *window;
  const float *in_re, *in_im;
  long length, per_row, count, size, hop;
  const flow_fft_plan *plan;
} fourier_job;

/// Doubles for a transform: two arrays and the plan's scratch, in the calling thread's memory.
static double *memory(const fourier_job *job) {
  return (double *)flow_scratch(1, (size_t)(2 * (2 * job->size + flow_fft_work(job->plan))));
}

static const flow_fft_plan *plan_for(long size) {
  const flow_fft_plan *plan = flow_fft_plan_for(size);
  if (plan == NULL) flow_out_of_memory((size_t)size * 2 * sizeof(double));
  return plan;
}

FLOW_CLONES static void windowed(double *to, const float *x, const float *window, long size) {
  for (long t = 0; t < size; t++) to[t] = (double)(x[t] * window[t]);
}

/// The spectra of both frames from that of their complex sum.
static void part(const fourier_job *job, long frame, int both, const double *re, const double *im) {
  long bins = job->size / 2 + 1, n = job->size;
  float *ar = job->re + frame * bins, *ai = job->im + frame * bins;
  for (long k = 0; k < bins; k++) {
    long m = k == 0 ? 0 : n - k;
    ar[k] = (float)(0.5 * (re[k] + re[m]));
    ai[k] = (float)(0.5 * (im[k] - im[m]));
    if (both) {
      ar[bins + k] = (float)(0.5 * (im[k] + im[m]));
      ai[bins + k] = (float)(0.5 * (re[m] - re[k]));
    }
  }
}

static void fourier_body(void *context, long begin, long end) {
  fourier_job *job = context;
  double *re = memory(job), *im = re + job->size, *work = im + job->size;
  for (long pair = begin; pair < end; pair++) {
    long a = 2 * pair, b = a + 1;
    int both = b < job->count;
    windowed(re, job->x + a / job->per_row * job->length + a % job->per_row * job->hop, job->window, job->size);
    if (both)
      windowed(im, job->x + b / job->per_row * job->length + b % job->per_row * job->hop, job->window, job->size);
    else
      memset(im, 0, (size_t)job->size * sizeof(double));
    flow_fft(job->plan, re, im, work);
    part(job, a, both, re, im);
  }
}

void flow_fourier(int threads, float *re, float *im, const float *x, const float *window, long rows, long length,
                  long frames, long size, long hop) {
  fourier_job job = {.re = re, .im = im, .x = x, .window = window, .length = length, .per_row = frames,
                     .count = rows * frames, .size = size, .hop = hop, .plan = plan_for(size)};
  flow_parallel(threads, (job.count + 1) / 2, 1 + 2048 / size, fourier_body, &job);
}

/// Adds the spectrum that makes real frame `frame`, times i if `second`.
static void join(const fourier_job *job, long frame, int second, double *re, double *im) {
  long bins = job->size / 2 + 1, n = job->size;
  const float *ar = job->in_re + frame * bins, *ai = job->in_im + frame * bins;
  for (long k = 0; k < bins; k++) {
    long m = k == 0 ? 0 : n - k;
    int alone = m == k || k == 0;
    double r = alone ? (double)ar[k] : 0.5 * (double)ar[k], i = alone ? 0 : 0.5 * (double)ai[k];
    if (second) {
      re[k] -= i, im[k] += r;
      if (!alone) re[m] += i, im[m] += r;
    } else {
      re[k] = r, im[k] = i;
      if (!alone) re[m] = r, im[m] = -i;
    }
  }
}

FLOW_CLONES static void unwindowed(float *to, const double *x, const float *window, long size) {
  for (long t = 0; t < size; t++) to[t] = (float)x[t] * window[t];
}

static void fourier_back_body(void *context, long begin, long end) {
  fourier_job *job = context;
  double *re = memory(job), *im = re + job->size, *work = im + job->size;
  for (long pair = begin; pair < end; pair++) {
    long a = 2 * pair, b = a + 1;
    join(job, a, 0, re, im);
    if (b < job->count) join(job, b, 1, re, im);
    // With the parts swapped, the forward transform is the inverse.
    flow_fft(job->plan, im, re, work);
    unwindowed(job->frames + a * job->size, re, job->window, job->size);
    if (b < job->count) unwindowed(job->frames + b * job->size, im, job->window, job->size);
  }
}

void flow_fourier_back(int threads, float *x, const float *re, const float *im, const float *window, long rows,
                       long length, long frames, long size, long hop, float *work) {
  fourier_job job = {.in_re = re, .in_im = im, .frames = work, .window = window, .count = rows * frames,
                     .size = size, .plan = plan_for(size)};
  flow_parallel(threads, (job.count + 1) / 2, 1 + 2048 / size, fourier_back_body, &job);
  flow_overlap_add(threads, x, work, rows, frames, size, hop, length);
}
