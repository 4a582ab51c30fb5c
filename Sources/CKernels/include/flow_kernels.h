#ifndef FLOW_KERNELS_H
#define FLOW_KERNELS_H

#include "flow_attention.h"
#include "flow_axis.h"
#include "flow_fft.h"
#include "flow_fused.h"
#include "flow_pool.h"
#include "flow_tensor.h"

#endif
