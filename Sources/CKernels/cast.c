#include "include/flow_kernels.h"
#include "vector_math.h"

// Conversions between element types by integer arithmetic, so that every processor gives the same bits. All go through
// float32, a block at a time; an int32 that float32 can't hold is rounded to the nearest it can.

enum { BLOCK = 1024 };

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

static inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

static inline float from_half(uint16_t h) {
  uint32_t wide = (uint32_t)(h & 0x7fff) << 13;
  // The exponents' biases differ by 112; a subnormal half is normal as a float, which a subtraction makes of it.
  uint32_t normal = wide + (112u << 23);
  uint32_t subnormal = bits_of(float_of(wide + (113u << 23)) - 0x1p-14f);
  uint32_t undefined = wide | 0x7f800000u;
  uint32_t u = wide < (1u << 23) ? subnormal : wide >= (31u << 23) ? undefined : normal;
  return float_of(u | (uint32_t)(h & 0x8000) << 16);
}

static inline uint16_t to_half(float x) {
  uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
  // Adding 1/2 leaves the digits that a subnormal half has, rounded as the processor rounds.
  uint32_t subnormal = bits_of(float_of(a) + 0.5f) - 0x3f000000u;
  uint32_t normal = (a - (112u << 23) + 0xfffu + (a >> 13 & 1)) >> 13;
  uint32_t beyond = a > 0x7f800000u ? 0x7e00u | (a >> 13 & 0x3ffu) : 0x7c00u;
  return (uint16_t)(sign | (a < 0x38800000u ? subnormal : a >= 0x477ff000u ? beyond : normal));
}

static inline uint16_t to_bfloat(float x) {
  uint32_t u = bits_of(x);
  uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16, undefined = u >> 16 | 0x40u;
  return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? undefined : rounded);
}

static inline int32_t to_integer(float x) {
  float low = x > -2147483648.0f ? x : -2147483648.0f;
  int32_t inside = (int32_t)(low < 2147483520.0f ? low : 2147483520.0f);
  return x != x ? 0 : x >= 2147483648.0f ? INT32_MAX : inside;
}

FLOW_CLONES static void read_block(float *to, const void *x, int type, long start, long count) {
  const float *f = (const float *)x + start;
  const int32_t *n = (const int32_t *)x + start;
  const uint16_t *h = (const uint16_t *)x + start;
  const uint8_t *b = (const uint8_t *)x + start;
  switch (type) {
  case FLOW_FLOAT32: memcpy(to, f, (size_t)count * sizeof(float)); break;
  case FLOW_BFLOAT16:
    for (long i = 0; i < count; i++) to[i] = float_of((uint32_t)h[i] << 16);
    break;
  case FLOW_FLOAT16:
    for (long i = 0; i < count; i++) to[i] = from_half(h[i]);
    break;
  case FLOW_INT32:
    for (long i = 0; i < count; i++) to[i] = (float)n[i];
    break;
  default:
    for (long i = 0; i < count; i++) to[i] = b[i] != 0 ? 1.0f : 0.0f;
  }
}

FLOW_CLONES static void write_block(void *y, const float *from, int type, long start, long count) {
  float *f = (float *)y + start;
  int32_t *n = (int32_t *)y + start;
  uint16_t *h = (uint16_t *)y + start;
  uint8_t *b = (uint8_t *)y + start;
  switch (type) {
  case FLOW_FLOAT32: memcpy(f, from, (size_t)count * sizeof(float)); break;
  case FLOW_BFLOAT16:
    for (long i = 0; i < count; i++) h[i] = to_bfloat(from[i]);
    break;
  case FLOW_FLOAT16:
    for (long i = 0; i < count; i++) h[i] = to_half(from[i]);
    break;
  case FLOW_INT32:
    for (long i = 0; i < count; i++) n[i] = to_integer(from[i]);
    break;
  default:
    for (long i = 0; i < count; i++) b[i] = from[i] != 0;
  }
}

typedef struct {
  void *y;
  const void *x;
  int to, from;
} cast_job;

static void cast_body(void *context, long begin, long end) {
  cast_job *job = context;
  // float32 on one side needs no block between.
  if (job->to == FLOW_FLOAT32) return read_block((float *)job->y + begin, job->x, job->from, begin, end - begin);
  if (job->from == FLOW_FLOAT32) return write_block(job->y, (const float *)job->x + begin, job->to, begin, end - begin);
  float block[BLOCK];
  for (long i = begin; i < end; i += BLOCK) {
    long count = end - i < BLOCK ? end - i : BLOCK;
    read_block(block, job->x, job->from, i, count);
    write_block(job->y, block, job->to, i, count);
  }
}

void flow_cast(int threads, void *y, int to, const void *x, int from, long count) {
  cast_job job = {y, x, to, from};
  flow_parallel(threads, count, 16384, cast_body, &job);
}
