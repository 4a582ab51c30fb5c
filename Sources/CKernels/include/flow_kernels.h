#ifndef FLOW_KERNELS_H
#define FLOW_KERNELS_H

#include "flow_attention.h"
#include "flow_axis.h"
#include "flow_conv2d.h"
#include "flow_fft.h"
#include "flow_fused.h"
#include "flow_pool.h"
#include "flow_sequence.h"
#include "flow_product.h"
#include "flow_tensor.h"
#include "flow_window.h"

#endif
