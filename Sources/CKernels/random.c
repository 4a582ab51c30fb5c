#include <math.h>

#include "include/flow_kernels.h"
#include "vector_math.h"

// Philox4x32-10 (Salmon et al., SC 2011), one block per four numbers.

typedef struct {
  float *y;
  long count;
  uint32_t seed, step, stream;
  int normal;
} random_job;

static void random_body(void *context, long begin, long end) {
  random_job *job = context;
  for (long block = begin; block < end; block++) {
    uint32_t c[4] = {(uint32_t)block, 0, job->stream, job->step}, k0 = job->seed, k1 = 0;
    for (int round = 0; round < 10; round++) {
      uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
      uint32_t n0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
      c[0] = n0, c[1] = (uint32_t)b, c[2] = n2, c[3] = (uint32_t)a;
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    float out[4];
    for (int i = 0; i < 4; i += 2) {
      if (job->normal) {
        float radius = sqrtf(-2.0f * logf((float)((c[i] >> 8) + 1) * 0x1p-24f));
        float angle = (float)(c[i + 1] >> 8) * 0x1p-24f * 6.28318530717958648f;
        out[i] = radius * cosf(angle);
        out[i + 1] = radius * sinf(angle);
      } else {
        out[i] = (float)(c[i] >> 8) * 0x1p-24f;
        out[i + 1] = (float)(c[i + 1] >> 8) * 0x1p-24f;
      }
    }
    long left = job->count - block * 4;
    memcpy(job->y + block * 4, out, (size_t)(left < 4 ? left : 4) * sizeof(float));
  }
}

void flow_random(int threads, float *y, long count, const int *key, unsigned stream, int normal) {
  random_job job = {y, count, (uint32_t)key[0], (uint32_t)key[1], stream, normal};
  flow_parallel(threads, (count + 3) / 4, 2048, random_body, &job);
}
