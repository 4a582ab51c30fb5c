#ifndef FLOW_FFT_H
#define FLOW_FFT_H

/// Tables for transforms of one length; made once per length, never freed, shared between threads.
typedef struct flow_fft_plan flow_fft_plan;

/// The plan for complex transforms of `n` points (n >= 1); NULL when memory runs out.
const flow_fft_plan *flow_fft_plan_for(long n);
/// In-place forward transform of n complex points given as two arrays, exp(-2 pi i k t / n). `work` holds
/// flow_fft_work(plan) doubles.
void flow_fft(const flow_fft_plan *plan, double *re, double *im, double *work);
/// Doubles of scratch that flow_fft wants.
long flow_fft_work(const flow_fft_plan *plan);

/// Best predecessor in a band: for each j, the largest v[i] + w[i - j + reach] over |i - j| <= reach, 0 <= i < n.
/// `best` and `from` have n places; ties take the smallest i.
void flow_band_max(double *best, int *from, const double *v, const double *w, long n, long reach);

#endif
