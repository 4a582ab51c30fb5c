#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

// Powers of two: Stockham's autosort algorithm, radix 4 with one radix-2 pass where needed. Other lengths: Bluestein's
// chirp transform over a power of two.

struct flow_fft_plan {
  long n, inner;           // inner: length of the power-of-two transform
  double *cosine, *sine;   // exp(-2 pi i k / inner), k < inner
  double *chirp_re, *chirp_im, *filter_re, *filter_im;
  const struct flow_fft_plan *base;
  struct flow_fft_plan *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static flow_fft_plan *plans;

FLOW_CLONES static void radix4(long n, long s, const double *restrict xr, const double *restrict xi,
                               double *restrict yr, double *restrict yi, const double *c, const double *d) {
  long m = n / 4;
  for (long p = 0; p < m; p++) {
    double c1 = c[p * s], s1 = d[p * s], c2 = c[2 * p * s], s2 = d[2 * p * s], c3 = c[3 * p * s], s3 = d[3 * p * s];
    const double *ar = xr + s * p, *ai = xi + s * p;
    double *br = yr + s * 4 * p, *bi = yi + s * 4 * p;
    for (long q = 0; q < s; q++) {
      double r0 = ar[q], i0 = ai[q], r1 = ar[q + s * m], i1 = ai[q + s * m], r2 = ar[q + 2 * s * m],
             i2 = ai[q + 2 * s * m], r3 = ar[q + 3 * s * m], i3 = ai[q + 3 * s * m];
      double ur = r0 + r2, ui = i0 + i2, vr = r0 - r2, vi = i0 - i2, wr = r1 + r3, wi = i1 + i3, zr = r1 - r3,
             zi = i1 - i3;
      br[q] = ur + wr;
      bi[q] = ui + wi;
      double er = vr + zi, ei = vi - zr, fr = ur - wr, fi = ui - wi, gr = vr - zi, gi = vi + zr;
      br[q + s] = er * c1 - ei * s1;
      bi[q + s] = er * s1 + ei * c1;
      br[q + 2 * s] = fr * c2 - fi * s2;
      bi[q + 2 * s] = fr * s2 + fi * c2;
      br[q + 3 * s] = gr * c3 - gi * s3;
      bi[q + 3 * s] = gr * s3 + gi * c3;
    }
  }
}

FLOW_CLONES static void radix2(long s, const double *restrict xr, const double *restrict xi, double *restrict yr,
                               double *restrict yi) {
  for (long q = 0; q < s; q++) {
    yr[q] = xr[q] + xr[q + s];
    yi[q] = xi[q] + xi[q + s];
    yr[q + s] = xr[q] - xr[q + s];
    yi[q + s] = xi[q] - xi[q + s];
  }
}

static void power_of_two(const flow_fft_plan *plan, double *re, double *im, double *work) {
  long n = plan->inner, s = 1;
  double *xr = re, *xi = im, *yr = work, *yi = work + plan->inner;
  while (n > 1) {
    if (n >= 4) {
      radix4(n, s, xr, xi, yr, yi, plan->cosine, plan->sine);
      n /= 4;
      s *= 4;
    } else {
      radix2(s, xr, xi, yr, yi);
      n /= 2;
      s *= 2;
    }
    double *t = xr;
    xr = yr;
    yr = t;
    t = xi;
    xi = yi;
    yi = t;
  }
  if (xr != re) {
    memcpy(re, xr, (size_t)plan->inner * sizeof(double));
    memcpy(im, xi, (size_t)plan->inner * sizeof(double));
  }
}

long flow_fft_work(const flow_fft_plan *plan) { return plan->base ? 4 * plan->base->inner : 2 * plan->inner; }

void flow_fft(const flow_fft_plan *plan, double *re, double *im, double *work) {
  if (plan->base == NULL) {
    power_of_two(plan, re, im, work);
    return;
  }
  long n = plan->n, m = plan->base->inner;
  double *ar = work, *ai = work + m, *rest = work + 2 * m;
  for (long i = 0; i < n; i++) {
    ar[i] = re[i] * plan->chirp_re[i] - im[i] * plan->chirp_im[i];
    ai[i] = re[i] * plan->chirp_im[i] + im[i] * plan->chirp_re[i];
  }
  memset(ar + n, 0, (size_t)(m - n) * sizeof(double));
  memset(ai + n, 0, (size_t)(m - n) * sizeof(double));
  power_of_two(plan->base, ar, ai, rest);
  for (long i = 0; i < m; i++) {
    double r = ar[i] * plan->filter_re[i] - ai[i] * plan->filter_im[i];
    ai[i] = -(ar[i] * plan->filter_im[i] + ai[i] * plan->filter_re[i]);  // conjugate: the next transform inverts
    ar[i] = r;
  }
  power_of_two(plan->base, ar, ai, rest);
  for (long i = 0; i < n; i++) {
    double r = ar[i] / (double)m, q = -ai[i] / (double)m;
    re[i] = r * plan->chirp_re[i] - q * plan->chirp_im[i];
    im[i] = r * plan->chirp_im[i] + q * plan->chirp_re[i];
  }
}

static flow_fft_plan *make(long n) {
  flow_fft_plan *plan = calloc(1, sizeof *plan);
  if (plan == NULL) return NULL;
  plan->n = plan->inner = n;
  if ((n & (n - 1)) == 0) {
    plan->cosine = malloc((size_t)n * 2 * sizeof(double));
    if (plan->cosine == NULL) return NULL;
    plan->sine = plan->cosine + n;
    for (long k = 0; k < n; k++) {
      plan->cosine[k] = cos(2 * M_PI * (double)k / (double)n);
      plan->sine[k] = -sin(2 * M_PI * (double)k / (double)n);
    }
    return plan;
  }
  long m = 1;
  while (m < 2 * n) m *= 2;
  flow_fft_plan *base = make(m);
  plan->chirp_re = malloc((size_t)(2 * n + 2 * m) * sizeof(double));
  double *work = malloc((size_t)(2 * m) * sizeof(double));
  if (base == NULL || plan->chirp_re == NULL || work == NULL) return NULL;
  plan->base = base;
  plan->chirp_im = plan->chirp_re + n;
  plan->filter_re = plan->chirp_im + n;
  plan->filter_im = plan->filter_re + m;
  memset(plan->filter_re, 0, (size_t)(2 * m) * sizeof(double));
  for (long k = 0; k < n; k++) {
    long square = (long)(((unsigned long long)k * (unsigned long long)k) % (unsigned long long)(2 * n));
    plan->chirp_re[k] = cos(M_PI * (double)square / (double)n);
    plan->chirp_im[k] = -sin(M_PI * (double)square / (double)n);
    plan->filter_re[k] = plan->filter_re[(m - k) % m] = plan->chirp_re[k];
    plan->filter_im[k] = plan->filter_im[(m - k) % m] = -plan->chirp_im[k];
  }
  power_of_two(base, plan->filter_re, plan->filter_im, work);
  free(work);
  return plan;
}

const flow_fft_plan *flow_fft_plan_for(long n) {
  if (n < 1) return NULL;
  pthread_mutex_lock(&lock);
  flow_fft_plan *plan = plans;
  while (plan != NULL && plan->n != n) plan = plan->next;
  if (plan == NULL) {
    plan = make(n);
    if (plan != NULL) {
      plan->next = plans;
      plans = plan;
    }
  }
  pthread_mutex_unlock(&lock);
  return plan;
}

FLOW_CLONES void flow_band_max(double *best, int *from, const double *v, const double *w, long n, long reach) {
  for (long j = 0; j < n; j++) best[j] = -INFINITY;
  for (long d = -reach; d <= reach; d++) {
    long low = d < 0 ? -d : 0, high = d > 0 ? n - d : n;
    double weight = w[d + reach];
    for (long j = low; j < high; j++) {
      double candidate = v[j + d] + weight;
      int better = candidate > best[j];
      best[j] = better ? candidate : best[j];
      from[j] = better ? (int)(j + d) : from[j];
    }
  }
}
