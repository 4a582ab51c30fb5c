#include "COpenBLAS.h"
#include "include/flow_kernels.h"

// OpenBLAS multiplies on the calling thread; a product is cut into pieces that depend on its sizes alone.

typedef struct {
  int ta, tb;
  long m, n, k, stride_a, stride_b, rows, columns, row_pieces, column_pieces;
  const float *a, *b;
  float *c;
} gemm_job;

static void gemm_pieces(void *context, long begin, long end) {
  gemm_job *job = context;
  long pieces = job->row_pieces * job->column_pieces;
  for (long unit = begin; unit < end; unit++) {
    long batch = unit / pieces, piece = unit % pieces;
    long i = piece / job->column_pieces * job->rows, j = piece % job->column_pieces * job->columns;
    long m = job->m - i < job->rows ? job->m - i : job->rows;
    long n = job->n - j < job->columns ? job->n - j : job->columns;
    long lda = job->ta ? job->m : job->k, ldb = job->tb ? job->k : job->n;
    const float *a = job->a + batch * job->stride_a + (job->ta ? i : i * lda);
    const float *b = job->b + batch * job->stride_b + (job->tb ? j * ldb : j);
    flow_blas_sgemm(101, job->ta ? 112 : 111, job->tb ? 112 : 111, (int)m, (int)n, (int)job->k, 1, a, (int)lda, b,
                (int)ldb, 0, job->c + (batch * job->m + i) * job->n + j, (int)job->n);
  }
}

void flow_gemm(int threads, int transpose_a, int transpose_b, long m, long n, long k, long batch, const float *a,
               long stride_a, const float *b, long stride_b, float *c) {
  gemm_job job = {transpose_a, transpose_b, m, n, k, stride_a, stride_b, m, n, 1, 1, a, b, c};
  double work = (double)m * (double)n * (double)k;
  if (batch < 8 && work > 1e6) {
    if (m >= n) {
      job.rows = (m + 3) / 4 < 48 ? 48 : (m + 3) / 4;
      job.row_pieces = (m + job.rows - 1) / job.rows;
    } else {
      job.columns = (n + 3) / 4 < 64 ? 64 : ((n + 3) / 4 + 15) / 16 * 16;
      job.column_pieces = (n + job.columns - 1) / job.columns;
    }
  }
  long units = batch * job.row_pieces * job.column_pieces;
  long grain = work * (double)batch < 1e5 ? units : 1;
  flow_parallel(threads, units, grain, gemm_pieces, &job);
}
