#ifndef FLOW_KERNELS_H
#define FLOW_KERNELS_H

#include "flow_fft.h"

#endif
