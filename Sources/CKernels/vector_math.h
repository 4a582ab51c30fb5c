// Branch-free single-precision functions that the compiler turns into vector code.
#ifndef FLOW_VECTOR_MATH_H
#define FLOW_VECTOR_MATH_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__has_attribute)
#define FLOW_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FLOW_CLONES
#endif

static inline float flow_bits(int32_t i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}

/// e^x to 2 ulp for |x| < 87, saturating outside. x = n ln 2 + r, |r| <= ln 2 / 2; Taylor polynomial of degree 7 in r.
static inline float flow_exp(float x) {
  x = x < -87.3f ? -87.3f : (x > 88.3f ? 88.3f : x);
  float n = __builtin_rintf(x * 1.44269504088896341f);
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
  return p * flow_bits(((int32_t)n + 127) << 23);
}

/// sin x to 1e-7 absolute for |x| < 1e4: x = n pi + r, |r| <= pi / 2 (pi in three parts, Cody & Waite), odd polynomial.
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

static inline float flow_sigmoid(float x) { return 1.0f / (1.0f + flow_exp(-x)); }

#endif
