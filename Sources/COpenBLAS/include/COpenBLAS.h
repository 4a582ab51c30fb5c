// OpenBLAS, opened when it is first used and told to use one thread (flow splits the work itself): loading it with the
// program costs every start, and its threads spin. Where it is missing, plain loops compute the same, slowly.
#ifndef FLOW_COPENBLAS_H
#define FLOW_COPENBLAS_H

enum { FLOW_ROW_MAJOR = 101, FLOW_NO_TRANS = 111, FLOW_TRANS = 112 };

/// As `cblas_sgemm`; row major only.
void flow_blas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc);
/// As `cblas_dgemm`; row major only.
void flow_blas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                     const double *b, int ldb, double beta, double *c, int ldc);

/// LAPACK's dsyevd: eigenvalues (ascending, into `w`) and eigenvectors (into `a`, columns) of a symmetric matrix. `info`
/// is -1000 where the library is missing.
void flow_blas_dsyevd(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
                      double *work, const int *lwork, int *iwork, const int *liwork, int *info);

/// The library's own words on how it was built and what processor it found; NULL where it is missing.
const char *flow_blas_config(void);
const char *flow_blas_core(void);
/// The instruction set that chooses the kernels, OpenBLAS's and our own: "avx512", "avx2", "x86-64", "neon" or "portable".
const char *flow_cpu_class(void);

#endif
