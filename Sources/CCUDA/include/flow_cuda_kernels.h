#ifndef FLOW_CUDA_KERNELS_H
#define FLOW_CUDA_KERNELS_H

/// The text of kernels/NAME.cu, or of the prelude; 0 when there is none.
const char *flow_cuda_source(const char *name);

#endif
