// The arithmetic functions, vector types and atomics of CUDA C++ that kernels use without any header.
#pragma once

// MARK: Bits

template <class To, class From> inline To shim_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}
inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
inline int __float_as_int(float x) { return shim_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
inline float __int_as_float(int x) { return shim_bits<float>(x); }
inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __brev(unsigned x) { return __builtin_bitreverse32(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
/// Bytes of (high, low) chosen by the nibbles of `selector`.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  unsigned long long both = (unsigned long long)high << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    unsigned nibble = selector >> 4 * i & 15, byte = (unsigned)(both >> 8 * (nibble & 7)) & 255;
    if (nibble & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return (unsigned)((((unsigned long long)high << 32 | low) << (by & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (by & 31));
}

// MARK: Numbers

#define SHIM_EXTREMES(type) \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
SHIM_EXTREMES(int)
SHIM_EXTREMES(unsigned)
SHIM_EXTREMES(long)
SHIM_EXTREMES(unsigned long)
SHIM_EXTREMES(long long)
SHIM_EXTREMES(unsigned long long)
#undef SHIM_EXTREMES
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline long long min(long long a, int b) { return min(a, (long long)b); }
inline long long min(int a, long long b) { return min((long long)a, b); }
inline long long max(long long a, int b) { return max(a, (long long)b); }
inline long long max(int a, long long b) { return max((long long)a, b); }
// As on the device, the number where one of the two isn't one.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return (float)(1 / sqrt((double)x)); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline void __sincosf(float x, float *s, float *c) { *s = sinf(x), *c = cosf(x); }
inline float sinpif(float x) { return (float)sin(M_PI * x); }
inline float cospif(float x) { return (float)cos(M_PI * x); }
inline void sincospif(float x, float *s, float *c) { *s = sinpif(x), *c = cospif(x); }
inline float normcdff(float x) { return (float)(0.5 * erfc(-x * M_SQRT1_2)); }
inline int __float2int_rn(float x) { return (int)rintf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __float2int_ru(float x) { return (int)ceilf(x); }
inline unsigned __float2uint_rn(float x) { return (unsigned)rintf(x); }
inline unsigned __float2uint_rz(float x) { return (unsigned)x; }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
#ifdef SHIM_MODULE
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return x < 0 ? -x : x; }
inline float abs(float x) { return fabsf(x); }
#undef isnan
#undef isinf
#undef isfinite
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
#endif

template <class T> inline T __ldg(const T *p) { return *p; }
template <class T> inline T __ldcg(const T *p) { return *p; }
template <class T> inline T __ldcs(const T *p) { return *p; }
template <class T> inline T __ldca(const T *p) { return *p; }
template <class T> inline void __stcs(T *p, T x) { *p = x; }
template <class T> inline void __stcg(T *p, T x) { *p = x; }

// MARK: Vectors

#define SHIM_VECTORS(type, element, align2, align4) \
  struct __align__(align2) type##2 { element x, y; }; \
  struct type##3 { element x, y, z; }; \
  struct __align__(align4) type##4 { element x, y, z, w; }; \
  inline type##2 make_##type##2(element x, element y) { return {x, y}; } \
  inline type##4 make_##type##4(element x, element y, element z, element w) { return {x, y, z, w}; }
#define uint3 shim_unused_uint3
SHIM_VECTORS(float, float, 8, 16)
SHIM_VECTORS(int, int, 8, 16)
SHIM_VECTORS(uint, unsigned, 8, 16)
SHIM_VECTORS(ushort, unsigned short, 4, 8)
SHIM_VECTORS(double, double, 16, 16)
#undef uint3
#undef SHIM_VECTORS

// MARK: Atomics (each returns the old value; relaxed, as on the device)

template <size_t bytes> struct shim_word;
template <> struct shim_word<4> {
  typedef unsigned type;
};
template <> struct shim_word<8> {
  typedef unsigned long long type;
};
template <class T, class F> inline T shim_atomic(T *p, F change) {
  typedef typename shim_word<sizeof(T)>::type Word;
  Word *word = (Word *)p, old = __atomic_load_n(word, __ATOMIC_RELAXED), next;
  do next = shim_bits<Word>(change(shim_bits<T>(old)));
  while (!__atomic_compare_exchange_n(word, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return shim_bits<T>(old);
}
#define SHIM_ATOMICS(type) \
  inline type atomicAdd(type *p, type x) { return shim_atomic(p, [=](type old) { return (type)(old + x); }); } \
  inline type atomicExch(type *p, type x) { return shim_atomic(p, [=](type) { return x; }); } \
  inline type atomicMax(type *p, type x) { return shim_atomic(p, [=](type old) { return max(old, x); }); } \
  inline type atomicMin(type *p, type x) { return shim_atomic(p, [=](type old) { return min(old, x); }); } \
  inline type atomicCAS(type *p, type test, type x) { \
    return shim_atomic(p, [=](type old) { return old == test ? x : old; }); \
  }
#define SHIM_BIT_ATOMICS(type) \
  SHIM_ATOMICS(type) \
  inline type atomicOr(type *p, type x) { return shim_atomic(p, [=](type old) { return old | x; }); } \
  inline type atomicAnd(type *p, type x) { return shim_atomic(p, [=](type old) { return old & x; }); } \
  inline type atomicXor(type *p, type x) { return shim_atomic(p, [=](type old) { return old ^ x; }); }
SHIM_BIT_ATOMICS(int)
SHIM_BIT_ATOMICS(unsigned)
SHIM_BIT_ATOMICS(unsigned long long)
SHIM_ATOMICS(float)
SHIM_ATOMICS(double)
#undef SHIM_BIT_ATOMICS
#undef SHIM_ATOMICS
