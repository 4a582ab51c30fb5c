#ifndef FLOW_CUDA_KERNELS_H
#define FLOW_CUDA_KERNELS_H

/// The text of a file of `kernels`; 0 when there is none of that name.
const char *flow_cuda_source(const char *name);
/// The files whose texts stand before it, with '+' between their names.
const char *flow_cuda_before(const char *name);

#endif
