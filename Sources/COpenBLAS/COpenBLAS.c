#include "COpenBLAS.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

static __typeof__(&flow_blas_sgemm) sgemm;
static __typeof__(&flow_blas_dgemm) dgemm;
static __typeof__(&flow_blas_dsyevd) dsyevd;
static char *(*config)(void);
static char *(*core)(void);
static pthread_once_t once = PTHREAD_ONCE_INIT;

const char *flow_cpu_class(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
  return "x86-64";
#elif defined(__aarch64__)
  return "neon";
#else
  return "portable";
#endif
}

// OpenBLAS tells processors apart by model. Kernels chosen by instruction set alone give the same digits on every processor
// of a class, known to OpenBLAS or not. A user's own choice stands.
static void choose_kernels(void) {
  const char *class = flow_cpu_class();
  if (class[0] == 'a') setenv("OPENBLAS_CORETYPE", class[3] == '5' ? "SkylakeX" : "Haswell", 0);
}

static void open_library(void) {
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
  choose_kernels();
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen("libopenblas.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  *(void **)&config = dlsym(library, "openblas_get_config");
  *(void **)&core = dlsym(library, "openblas_get_corename");
  void (*threads)(int);
  *(void **)&threads = dlsym(library, "openblas_set_num_threads");
  if (threads) threads(1);
  *(void **)&dsyevd = dlsym(library, "dsyevd_");
  *(void **)&dgemm = dlsym(library, "cblas_dgemm");
  *(void **)&sgemm = dlsym(library, "cblas_sgemm");
}

#define PLAIN(name, real)                                                                                            \
  static void name(int ta, int tb, int m, int n, int k, real alpha, const real *a, int lda, const real *b, int ldb,  \
                   real beta, real *c, int ldc) {                                                                    \
    for (int i = 0; i < m; i++)                                                                                      \
      for (int j = 0; j < n; j++) {                                                                                  \
        real sum = 0;                                                                                                \
        for (int p = 0; p < k; p++) {                                                                                \
          real x = ta == FLOW_TRANS ? a[(size_t)p * lda + i] : a[(size_t)i * lda + p];                               \
          real y = tb == FLOW_TRANS ? b[(size_t)j * ldb + p] : b[(size_t)p * ldb + j];                               \
          sum += x * y;                                                                                              \
        }                                                                                                            \
        real *to = c + (size_t)i * ldc + j;                                                                          \
        *to = alpha * sum + (beta == 0 ? 0 : beta * *to);                                                            \
      }                                                                                                              \
  }
PLAIN(plain_sgemm, float)
PLAIN(plain_dgemm, double)

void flow_blas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc) {
  pthread_once(&once, open_library);
  if (sgemm)
    sgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  else
    plain_sgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void flow_blas_dgemm(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a, int lda,
                     const double *b, int ldb, double beta, double *c, int ldc) {
  pthread_once(&once, open_library);
  if (dgemm)
    dgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  else
    plain_dgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void flow_blas_dsyevd(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
                      double *work, const int *lwork, int *iwork, const int *liwork, int *info) {
  pthread_once(&once, open_library);
  if (dsyevd)
    dsyevd(jobz, uplo, n, a, lda, w, work, lwork, iwork, liwork, info);
  else
    *info = -1000;
}

const char *flow_blas_config(void) {
  pthread_once(&once, open_library);
  return config ? config() : NULL;
}

const char *flow_blas_core(void) {
  pthread_once(&once, open_library);
  return core ? core() : NULL;
}
