#ifndef FLOW_PRODUCT_H
#define FLOW_PRODUCT_H

/// A small product on the calling thread: C [m, n] = scale * A [m, k] B [k, n], or added to C. A's element (i, p) is at
/// i * a_row + p * a_step; rows of B and C are b_row and c_row apart.
typedef struct {
  long m, n, k;
  const float *a;
  long a_row, a_step;
  const float *b;
  long b_row;
  float *c;
  long c_row;
  float scale;
  int accumulate;
} flow_product;

void flow_small_product(const flow_product *job);

#endif
