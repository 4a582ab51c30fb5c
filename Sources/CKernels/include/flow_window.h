#ifndef FLOW_WINDOW_H
#define FLOW_WINDOW_H

/// Windows over planes of [height, width]; one result for each of rows x columns.
typedef struct {
  long planes, height, width, rows, columns, window_rows, window_columns, stride_row, stride_column, padding_row,
      padding_column;
} flow_window_size;

/// Of each window the value where the key is largest: of equals the first, NaN wins.
void flow_window_take(int threads, flow_window_size s, float *y, const float *keys, const float *values);
/// The transpose in the values.
void flow_window_put(int threads, flow_window_size s, float *x, const float *keys, const float *y);

/// y [outer, to, inner] from x [outer, from, inner]: between x[first] and x[second], `share` of the way.
void flow_resample(int threads, float *y, const float *x, long outer, long from, long to, long inner,
                   const int *first, const int *second, const float *share);
/// The transpose.
void flow_resample_back(int threads, float *x, const float *y, long outer, long from, long to, long inner,
                        const int *first, const int *second, const float *share);

#endif
