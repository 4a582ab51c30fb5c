#include "include/flow_product.h"

// Products whose sides are tens to hundreds: a BLAS packs its operands first, which costs a third of such a product's time.

#if defined(__x86_64__)
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define BYTES 64
#define ROWS 6
#define VECTORS 4
#include "small_product.h"

#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define BYTES 32
#define ROWS 6
#define VECTORS 2
#include "small_product.h"
#endif

#define NAME(x) x##_portable
#define TARGET
#define BYTES 16
#define ROWS 4
#define VECTORS 4
#include "small_product.h"

void flow_small_product(const flow_product *job) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    product_avx512(job);
    return;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    product_avx2(job);
    return;
  }
#endif
  product_portable(job);
}
