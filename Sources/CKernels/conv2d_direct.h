// The direct way of conv2d.c, for groups of several channels.
#ifndef FLOW_CONV2D_DIRECT_H
#define FLOW_CONV2D_DIRECT_H

#include "include/flow_conv2d.h"

enum { FLOW_MOST_TAPS = 256 };

/// Whether these functions serve the sizes, and do it sooner than columns and a matrix product.
int flow_conv2d_is_direct(const flow_conv2d_size *s);
void flow_conv2d_direct(int threads, flow_conv2d_size s, float *y, const float *x, const float *w);
void flow_conv2d_direct_back(int threads, flow_conv2d_size s, float *x, const float *y, const float *w);
void flow_conv2d_direct_weight(int threads, flow_conv2d_size s, float *w, const float *x, const float *y);

#endif
