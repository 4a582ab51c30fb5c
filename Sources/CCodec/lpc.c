// The linear predictor of a block: autocorrelation of the windowed samples, the recursion of Levinson and Durbin
// (Markel and Gray, Linear Prediction of Speech, 1976), the order by the bits that each promises; coefficients as integers of a
// common scale, as in FLAC (RFC 9639), so that every machine predicts alike.
#include <math.h>

#include "codec.h"

typedef double v4d __attribute__((vector_size(32), aligned(8)));

/// The samples, the first and last quarter faded in and out.
FLOW_CLONES static void window(const int32_t *x, size_t count, double *w) {
  size_t edge = count / 4;
  for (size_t i = 0; i < count; i++) w[i] = x[i];
  for (size_t i = 0; i < edge; i++) {
    double t = ((double)i + 0.5) / (double)edge, fade = t * t * (3 - 2 * t);
    w[i] *= fade;
    w[count - 1 - i] *= fade;
  }
}

/// Lags of one pass over the samples, and of all passes: LANE_ORDER and 0.
enum { LAGS = 6, BEFORE = 3 * LAGS };
/// LAGS of the autocorrelation's values from `lag` on; `w` has as many samples before it, `count` is a multiple of 4.
static inline __attribute__((always_inline)) void lags(const double *w, size_t count, size_t lag, double *r) {
  v4d sums[LAGS] = {{0}};
  for (size_t i = 0; i < count; i += 4) {
    v4d here;
    memcpy(&here, w + i, sizeof here);
    for (size_t k = 0; k < LAGS; k++) {
      v4d there;
      memcpy(&there, w + i - lag - k, sizeof there);
      sums[k] += here * there;
    }
  }
  for (size_t k = 0; k < LAGS; k++) r[k] = (sums[k][0] + sums[k][1]) + (sums[k][2] + sums[k][3]);
}

FLOW_CLONES static void autocorrelation(const double *w, size_t count, double r[BEFORE]) {
  for (size_t lag = 0; lag < BEFORE; lag += LAGS) lags(w, count, lag, r + lag);
}

lpc_predictor flow_lpc_analyse(const int32_t *x, size_t count) {
  lpc_predictor best = {.order = 0};
  double windowed[BEFORE + LANE_BLOCK + 4], *w = windowed + BEFORE, r[BEFORE];
  memset(windowed, 0, BEFORE * sizeof *w);
  window(x, count, w);
  for (size_t i = 0; i < 4; i++) w[count + i] = 0;
  autocorrelation(w, (count + 3) & ~(size_t)3, r);
  if (r[0] == 0) return best;
  // As if there were a little noise: samples are rounded.
  double error = r[0] * (1 + 1e-9), n = (double)count;
  double a[LANE_ORDER], kept[LANE_ORDER];
  double least = 0.5 * n * log2(error / n + 0.1);
  for (unsigned p = 0; p < LANE_ORDER && p + 1 < count; p++) {
    double sum = r[p + 1];
    for (unsigned j = 0; j < p; j++) sum -= a[j] * r[p - j];
    double reflection = sum / error;
    if (!(fabs(reflection) < 1)) break;
    for (unsigned j = 0; j < p / 2; j++) {
      double left = a[j], right = a[p - 1 - j];
      a[j] = left - reflection * right;
      a[p - 1 - j] = right - reflection * left;
    }
    if (p % 2 == 1) a[p / 2] -= reflection * a[p / 2];
    a[p] = reflection;
    error *= 1 - reflection * reflection;
    double bits = 0.5 * n * log2(error / n + 0.1) + (p + 1) * 16;
    if (bits < least) {
      least = bits;
      best.order = p + 1;
      memcpy(kept, a, sizeof kept);
    }
  }
  double most = 0;
  for (unsigned j = 0; j < best.order; j++) most = fmax(most, fabs(kept[j]));
  best.scale = LPC_POINT;
  while (best.scale > 0 && ldexp(most, (int)best.scale) > INT16_MAX) best.scale--;
  if (ldexp(most, (int)best.scale) > INT16_MAX) best.order = 0;
  for (unsigned j = 0; j < best.order; j++) best.coefficients[j] = (int32_t)lround(ldexp(kept[j], (int)best.scale));
  return best;
}

FLOW_CLONES void flow_lpc_residuals(const int32_t *x, size_t count, const lpc_predictor *predictor, uint32_t *v) {
  enum { TILE = 64 };
  for (size_t from = 0; from < count; from += TILE) {
    size_t n = count - from < TILE ? count - from : TILE;
    uint32_t sums[TILE];
    for (size_t i = 0; i < n; i++) sums[i] = predictor->order > 0 ? 1u << (LPC_POINT - 1) : 0;
    for (unsigned k = 0; k < predictor->order; k++) {
      uint32_t c = (uint32_t)predictor->coefficients[k] << (LPC_POINT - predictor->scale);
      const int32_t *p = x + from - 1 - k;
      for (size_t i = 0; i < n; i++) sums[i] += c * (uint32_t)p[i];
    }
    for (size_t i = 0; i < n; i++) {
      uint32_t prediction = (uint32_t)((int32_t)sums[i] >> LPC_POINT);
      int32_t d = (int16_t)((uint32_t)x[from + i] - prediction);
      v[from + i] = ((uint32_t)d << 1 ^ (uint32_t)(d >> 31)) & 0xFFFF;
    }
  }
}
