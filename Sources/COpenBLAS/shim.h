// Only what flow calls: the header of the distribution pulls in C complex types that Swift can't import.
#ifndef FLOW_COPENBLAS_SHIM_H
#define FLOW_COPENBLAS_SHIM_H

enum { FLOW_ROW_MAJOR = 101, FLOW_NO_TRANS = 111, FLOW_TRANS = 112 };

void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc);
void cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                 const double *b, int ldb, double beta, double *c, int ldc);
void openblas_set_num_threads(int count);
char *openblas_get_config(void);
char *openblas_get_corename(void);
int openblas_get_parallel(void);

/// LAPACK: eigenvalues (ascending, into `w`) and eigenvectors (into `a`, columns) of a symmetric matrix.
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info);

#endif
