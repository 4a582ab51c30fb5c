// Branch-free single-precision functions that the compiler turns into vector code.
#ifndef FLOW_VECTOR_MATH_H
#define FLOW_VECTOR_MATH_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__has_attribute)
#define FLOW_CLONES __attribute__((target_clones("avx512f", "arch=x86-64-v3", "default")))
#else
#define FLOW_CLONES
#endif

static inline float flow_bits(int32_t i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}

/// e^x to 2 ulp for |x| < 88 and 1.5e-6 above; 0 where the result would be subnormal. x = n ln 2 + r, |r| <= ln 2 / 2;
/// Taylor polynomial of degree 7 in r.
static inline float flow_exp(float given) {
  float x = given < -87.3f ? -87.3f : (given > 88.7228f ? 88.7228f : given);
  float n = __builtin_rintf(x * 1.44269504088896341f);
  n = n > 127.0f ? 127.0f : n;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  p = p * flow_bits(((int32_t)n + 127) << 23);
  p = given > 88.7228f ? __builtin_inff() : p;
  return given < -87.3f ? 0.0f : p;
}

/// sin x to 1e-6 for |x| < 1e4: x = n pi + r, |r| <= pi / 2 (pi in three parts, Cody & Waite), odd polynomial.
static inline float flow_sin(float x) {
  float n = __builtin_rintf(x * 0.318309886183790672f);
  float r = x - n * 3.140625f;
  r = r - n * 9.67502593994140625e-4f;
  r = r - n * 1.509957990978376432e-7f;
  float q = r * r;
  float p = 1.605904384e-10f;
  p = p * q - 2.505210839e-8f;
  p = p * q + 2.755731922e-6f;
  p = p * q - 1.984126984e-4f;
  p = p * q + 8.333333333e-3f;
  p = p * q - 1.666666667e-1f;
  p = r + r * q * p;
  return ((int32_t)n & 1) ? -p : p;
}

/// cos x to 1e-6 for |x| < 1e4: as flow_sin, around the odd multiples of pi / 2.
static inline float flow_cos(float x) {
  float k = __builtin_rintf(x * 0.318309886183790672f - 0.5f), n = k + 0.5f;
  float r = x - n * 3.140625f;
  r = r - n * 9.67502593994140625e-4f;
  r = r - n * 1.509957990978376432e-7f;
  float q = r * r;
  float p = 1.605904384e-10f;
  p = p * q - 2.505210839e-8f;
  p = p * q + 2.755731922e-6f;
  p = p * q - 1.984126984e-4f;
  p = p * q + 8.333333333e-3f;
  p = p * q - 1.666666667e-1f;
  p = r + r * q * p;
  return ((int32_t)k & 1) ? p : -p;
}

/// ln x to 1e-6 relative away from 1, 1e-7 absolute near it; -inf at 0, NaN below. x = 2^e m, m in [sqrt 1/2, sqrt 2);
/// polynomial of the Cephes library (Moshier).
static inline float flow_log(float x) {
  int tiny = x < 1.17549435e-38f;
  float scaled = tiny ? x * 8388608.0f : x;
  int32_t bits;
  memcpy(&bits, &scaled, 4);
  int32_t shifted = bits - 0x3f3504f3;
  float e = (float)((shifted >> 23) - (tiny ? 23 : 0));
  float m = flow_bits((shifted & 0x007fffff) + 0x3f3504f3) - 1.0f, z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  p = p * m * z - 2.12194440e-4f * e - 0.5f * z;
  float y = m + p + 0.693359375f * e;
  y = x > 3.4028235e38f || x != x ? x : y;
  return x > 0 ? y : (x == 0 ? -__builtin_inff() : (x != x ? x : __builtin_nanf("")));
}

/// tanh x to 1e-6 relative: polynomial of the Cephes library (Moshier) near 0, 1 - 2 / (e^2x + 1) elsewhere.
static inline float flow_tanh(float x) {
  float a = __builtin_fabsf(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float near = p * z * x + x;
  float far = __builtin_copysignf(1.0f - 2.0f / (flow_exp(2.0f * a) + 1.0f), x);
  return a < 0.625f ? near : (x != x ? x : far);
}

/// Whether all |x[i]| <= limit.
static inline int flow_within(const float *x, long count, float limit) {
  int outside = 0;
  for (long i = 0; i < count; i++) outside |= !(__builtin_fabsf(x[i]) <= limit);
  return !outside;
}

static inline float flow_sigmoid(float x) { return 1.0f / (1.0f + flow_exp(-x)); }

/// a if `condition` is 1, b if it is 0, both computed: where a branch would keep a loop from being vectorised.
static inline float flow_pick(int condition, float a, float b) {
  int32_t i, j, mask = -condition;
  memcpy(&i, &a, 4);
  memcpy(&j, &b, 4);
  return flow_bits((i & mask) | (j & ~mask));
}

/// ln(1 + e^x) to 1e-6: max(x, 0) + ln(1 + e), e <= 1, which is 2 atanh(e / (2 + e)) by its series.
static inline float flow_softplus(float x) {
  float e = flow_exp(-__builtin_fabsf(x)), s = e / (2.0f + e), z = s * s;
  float p = 1.0f / 15.0f;
  p = p * z + 1.0f / 13.0f;
  p = p * z + 1.0f / 11.0f;
  p = p * z + 1.0f / 9.0f;
  p = p * z + 1.0f / 7.0f;
  p = p * z + 1.0f / 5.0f;
  p = p * z + 1.0f / 3.0f;
  p = p * z + 1.0f;
  return flow_pick(x != x, x, (x > 0 ? x : 0.0f) + 2.0f * s * p);
}

/// erf x to 1e-6 relative: its series below 1, Abramowitz & Stegun 7.1.26 above.
static inline float flow_erf(float x) {
  float a = __builtin_fabsf(x), z = x * x;
  float s = 1.0f / 75600.0f - z * (1.0f / 685440.0f - z * (1.0f / 6894720.0f - z * (1.0f / 76204800.0f)));
  s = 1.0f / 216.0f - z * (1.0f / 1320.0f - z * (1.0f / 9360.0f - z * s));
  s = 1.0f - z * (1.0f / 3.0f - z * (1.0f / 10.0f - z * (1.0f / 42.0f - z * s)));
  float t = 1.0f / (1.0f + 0.3275911f * a);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  float far = __builtin_copysignf(1.0f - p * t * flow_exp(-z), x);
  return flow_pick(x != x, x, flow_pick(a < 1.0f, 1.1283791671f * x * s, far));
}

#endif
