// The body of a small matrix product for one instruction set: C = scale * A B or C += scale * A B, where A is read by
// single elements at any strides and B and C by vectors. Included once per instruction set, with NAME, TARGET, BYTES of a
// vector, and the tile of ROWS by VECTORS that its registers hold.

typedef float NAME(vector) __attribute__((vector_size(BYTES), aligned(4)));

TARGET static inline __attribute__((always_inline)) void NAME(tile)(
    const flow_product *job, long i, long j, int vectors) {
  enum { WIDTH = BYTES / 4 };
  NAME(vector) sum[ROWS][VECTORS];
  const float *a[ROWS];
  long last = job->m - 1;
  for (int r = 0; r < ROWS; r++) {
    a[r] = job->a + (i + r < last ? i + r : last) * job->a_row;
    for (int v = 0; v < vectors; v++) sum[r][v] = (NAME(vector)){0};
  }
  const float *b = job->b + j;
  for (long p = 0; p < job->k; p++, b += job->b_row) {
    NAME(vector) line[VECTORS];
    for (int v = 0; v < vectors; v++) line[v] = *(const NAME(vector) *)(b + v * WIDTH);
    for (int r = 0; r < ROWS; r++) {
      float factor = a[r][p * job->a_step];
      for (int v = 0; v < vectors; v++) sum[r][v] += line[v] * factor;
    }
  }
  for (int r = 0; r < ROWS && i + r <= last; r++) {
    NAME(vector) *c = (NAME(vector) *)(job->c + (i + r) * job->c_row + j);
    for (int v = 0; v < vectors; v++)
      c[v] = job->accumulate ? c[v] + sum[r][v] * job->scale : sum[r][v] * job->scale;
  }
}

TARGET static void NAME(product)(const flow_product *job) {
  enum { WIDTH = BYTES / 4, PANEL = VECTORS * WIDTH };
  long j = 0;
  for (; j + PANEL <= job->n; j += PANEL)
    for (long i = 0; i < job->m; i += ROWS) NAME(tile)(job, i, j, VECTORS);
  for (; j + WIDTH <= job->n; j += WIDTH)
    for (long i = 0; i < job->m; i += ROWS) NAME(tile)(job, i, j, 1);
  for (; j < job->n; j++)
    for (long i = 0; i < job->m; i++) {
      float sum = 0, *c = job->c + i * job->c_row + j;
      for (long p = 0; p < job->k; p++) sum += job->a[i * job->a_row + p * job->a_step] * job->b[p * job->b_row + j];
      *c = (job->accumulate ? *c : 0) + sum * job->scale;
    }
}

#undef NAME
#undef TARGET
#undef BYTES
#undef ROWS
#undef VECTORS
