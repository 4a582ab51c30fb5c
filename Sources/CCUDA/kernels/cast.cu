// Conversions between element types through float32, with the same bits as on the CPU. FROM and TO are the types' codes:
// 0 float32, 1 bfloat16, 2 float16, 3 int32, 4 bool.

#if FROM == 0
typedef float From;
DEVICE float widened(From x) { return x; }
#elif FROM == 1
typedef u16 From;
DEVICE float widened(From x) { return __uint_as_float((u32)x << 16); }
#elif FROM == 2
typedef u16 From;
DEVICE float widened(From x) {
  u32 wide = (u32)(x & 0x7fff) << 13;
  // The exponents' biases differ by 112; a subnormal half is normal as a float, which a subtraction makes of it.
  u32 normal = wide + (112u << 23);
  u32 subnormal = __float_as_uint(__uint_as_float(wide + (113u << 23)) - 6.103515625e-5f);
  u32 bits = wide < (1u << 23) ? subnormal : wide >= (31u << 23) ? wide | 0x7f800000u : normal;
  return __uint_as_float(bits | (u32)(x & 0x8000) << 16);
}
#elif FROM == 3
typedef int From;
DEVICE float widened(From x) { return (float)x; }
#else
typedef u8 From;
DEVICE float widened(From x) { return x != 0 ? 1.0f : 0.0f; }
#endif

#if TO == 0
typedef float To;
DEVICE To narrowed(float x) { return x; }
#elif TO == 1
typedef u16 To;
DEVICE To narrowed(float x) {
  u32 bits = __float_as_uint(x);
  // The conversion instruction would change the bits of what is not a number.
  return (bits & 0x7fffffffu) > 0x7f800000u ? (u16)(bits >> 16 | 0x40u) : round_bf16(x);
}
#elif TO == 2
typedef u16 To;
DEVICE To narrowed(float x) {
  u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffffu;
  // Adding 1/2 leaves the digits that a subnormal half has, rounded as the processor rounds.
  u32 subnormal = __float_as_uint(__uint_as_float(a) + 0.5f) - 0x3f000000u;
  u32 normal = (a - (112u << 23) + 0xfffu + (a >> 13 & 1)) >> 13;
  u32 beyond = a > 0x7f800000u ? 0x7e00u | (a >> 13 & 0x3ffu) : 0x7c00u;
  return (u16)(sign | (a < 0x38800000u ? subnormal : a >= 0x477ff000u ? beyond : normal));
}
#elif TO == 3
typedef int To;
DEVICE To narrowed(float x) {
  if (x != x) return 0;
  return x >= 2147483648.0f ? 2147483647 : x <= -2147483648.0f ? -2147483647 - 1 : (int)x;
}
#else
typedef u8 To;
DEVICE To narrowed(float x) { return x != 0 ? 1 : 0; }
#endif

struct alignas(4 * sizeof(From)) FromFour {
  From at[4];
};
struct alignas(4 * sizeof(To)) ToFour {
  To at[4];
};

enum { EACH = 4, THREADS = 256 };

/// Four elements per access where `wide`, which both addresses allow then.
KERNEL(256) cast(To *y, const From *x, i64 count, int wide) {
  i64 first = (i64)blockIdx.x * (EACH * THREADS) + threadIdx.x;
  if (wide) {
    FromFour value[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++)
      if (first + k * THREADS < count / 4) value[k] = ((const FromFour *)x)[first + k * THREADS];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      ToFour result;
#pragma unroll
      for (int j = 0; j < 4; j++) result.at[j] = narrowed(widened(value[k].at[j]));
      if (first + k * THREADS < count / 4) ((ToFour *)y)[first + k * THREADS] = result;
    }
    i64 last = count / 4 * 4 + first;
    if (last < count) y[last] = narrowed(widened(x[last]));
    return;
  }
  for (int k = 0; k < EACH; k++)
    if (first + k * THREADS < count) y[first + k * THREADS] = narrowed(widened(x[first + k * THREADS]));
}
