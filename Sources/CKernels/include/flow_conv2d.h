#ifndef FLOW_CONV2D_H
#define FLOW_CONV2D_H

/// Sizes of a convolution: x [batch, groups * in, height, width], w [groups * out, in, tap_rows, tap_columns],
/// y [batch, groups * out, rows, columns].
typedef struct {
  long batch, groups, in, out, height, width, rows, columns, tap_rows, tap_columns, stride_row, stride_column,
      padding_row, padding_column, dilation_row, dilation_column;
} flow_conv2d_size;

void flow_conv2d(int threads, flow_conv2d_size s, float *y, const float *x, const float *w);
/// The transpose in x.
void flow_conv2d_back(int threads, flow_conv2d_size s, float *x, const float *y, const float *w);
/// The gradient in w; `partial` holds `slices` times its floats.
void flow_conv2d_weight(int threads, flow_conv2d_size s, float *w, const float *x, const float *y, float *partial,
                        int slices);

#endif
