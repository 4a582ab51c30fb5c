#ifndef FLOW_TENSOR_H
#define FLOW_TENSOR_H

#include <stdint.h>

// Kernels of the BLAS backend. Arrays are row-major float32 unless said otherwise. Results do not depend on `threads`.

/// Element types.
enum { FLOW_FLOAT32, FLOW_BFLOAT16, FLOW_FLOAT16, FLOW_INT32, FLOW_BOOL };
/// y[i] = x[i] as the type `to` keeps it.
void flow_cast(int threads, void *y, int to, const void *x, int from, long count);
/// y = x at strides, elements of `size` (1, 2 or 4) bytes; y is dense, of `rank` (1 to 6) axes.
void flow_copy(int threads, void *y, const void *x, int size, int rank, const long *shape, const long *stride);

/// y[i] = f(x[i]); `function` is UnaryFunction's raw value.
void flow_unary(int threads, int function, float *y, const float *x, long count);
/// y[i] = x[i] * scale + offset.
void flow_affine(int threads, float *y, const float *x, float scale, float offset, long count);
/// y = f(a, b) over `rank` (1 to 6) axes with the strides of a and b; y is dense.
void flow_binary(int threads, int function, float *y, const float *a, const float *b, int rank, const long *shape,
                 const long *stride_a, const long *stride_b);
/// [outer, count, inner] -> [outer, inner], summed. `partial` holds flow_sum_partials floats.
void flow_sum(int threads, float *y, const float *x, long outer, long count, long inner, float *partial);
/// Floats that flow_sum wants.
long flow_sum_partials(long outer, long count, long inner);
/// Rows of `width`.
void flow_softmax(int threads, float *y, const float *x, long rows, long width);
/// y = x / rms(x), scale = 1 / rms(x) per row.
void flow_rms(int threads, float *y, float *scale, const float *x, long rows, long width, float epsilon);
/// Pads the last axis; `mode` is Pad.Mode's raw value.
void flow_pad(int threads, float *y, const float *x, long rows, long count, long before, long after, int mode);
/// The transpose of flow_pad.
void flow_unpad(int threads, float *y, const float *g, long rows, long count, long before, long after, int mode);
void flow_frame(int threads, float *y, const float *x, long rows, long length, long window, long hop);
void flow_overlap_add(int threads, float *y, const float *x, long rows, long frames, long window, long hop, long length);
/// C = op(A) op(B) `batch` times; strides in elements, 0 when shared.
void flow_gemm(int threads, int transpose_a, int transpose_b, long m, long n, long k, long batch, const float *a,
               long stride_a, const float *b, long stride_b, float *c);
/// Rows of the table; 0 for an index outside it.
void flow_gather(int threads, float *y, const float *table, const int *index, long count, long rows, long width);
/// The transpose; an index outside is left out.
void flow_scatter_add(float *y, const float *x, const int *index, long count, long rows, long width);

/// Sizes of a convolution: x [batch, in, length], w [out, in, taps], y [batch, out, result].
typedef struct {
  long batch, in, out, length, result, taps, stride, padding, dilation;
} flow_conv_size;
void flow_conv(int threads, flow_conv_size s, float *y, const float *x, const float *w, float *work);
void flow_conv_back(int threads, flow_conv_size s, float *x, const float *y, const float *w, float *work);
void flow_conv_weight(int threads, flow_conv_size s, float *w, const float *x, const float *y, float *work);

/// Alias-free snake: x [rows, length] with row r using channel r % channels of alpha, beta (log scale).
void flow_snake(int threads, float *y, const float *x, const float *alpha, const float *beta, const float *filter,
                long rows, long channels, long length, int log_scale);
/// Its gradients: gx like x, and per row the sums for alpha and beta (the caller adds the rows of a channel).
void flow_snake_back(int threads, float *gx, float *row_alpha, float *row_beta, const float *g, const float *x,
                     const float *alpha, const float *beta, const float *filter, long rows, long channels,
                     long length, int log_scale);

/// One pass of AdamW (Loshchilov & Hutter 2019). scalars: learning rate, 1 - beta1^n, 1 - beta2^n, factor of g.
void flow_adamw(int threads, float *p_out, float *m_out, float *v_out, const float *p, const float *g, const float *m,
                const float *v, const float *scalars, float beta1, float beta2, float epsilon, float decay, long count);

#endif
