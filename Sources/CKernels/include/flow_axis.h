#ifndef FLOW_AXIS_H
#define FLOW_AXIS_H

// Kernels along one axis: tensors are [outer, count, inner], or [outer, inner] where the axis is gone.

/// The largest, or smallest, along the axis; NaN wins.
void flow_extreme(int threads, float *y, const float *x, long outer, long count, long inner, int largest);
/// Where it is, of equals the first.
void flow_arg_extreme(int threads, int *y, const float *x, long outer, long count, long inner, int largest);
/// The running sum; y may be x.
void flow_cumulative_sum(int threads, float *y, const float *x, long outer, long count, long inner, int reverse);
/// [count] -> [count, classes].
void flow_one_hot(int threads, float *y, const int *index, long count, long classes);
/// y [outer, taken, inner] from x [outer, count, inner]; 0 for an index outside.
void flow_take_along(int threads, float *y, const float *x, const int *index, long outer, long count, long taken,
                     long inner);
/// The transpose of flow_take_along.
void flow_put_along(int threads, float *x, const float *y, const int *index, long outer, long count, long taken,
                    long inner);

#endif
