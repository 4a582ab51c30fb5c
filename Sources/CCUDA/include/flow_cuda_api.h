#ifndef FLOW_CUDA_API_H
#define FLOW_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

// The functions of CUDA's libraries that are called, by their documented prototypes (CUDA Driver API, NVRTC and cuBLAS
// reference, 13.0). The libraries are opened at run time; nothing of CUDA's is needed to build. Handles are `void *`.
// Each X is (name here, symbol, parameters, arguments); `flow_NAME` calls the symbol once its library is bound.

typedef uint64_t flow_address;

#define FLOW_DRIVER_FUNCTIONS(X)                                                                                      \
  X(cuInit, "cuInit", (unsigned flags), (flags))                                                                      \
  X(cuDriverGetVersion, "cuDriverGetVersion", (int *version), (version))                                              \
  X(cuGetErrorName, "cuGetErrorName", (int error, const char **text), (error, text))                                  \
  X(cuGetErrorString, "cuGetErrorString", (int error, const char **text), (error, text))                              \
  X(cuDeviceGetCount, "cuDeviceGetCount", (int *count), (count))                                                      \
  X(cuDeviceGet, "cuDeviceGet", (int *device, int ordinal), (device, ordinal))                                        \
  X(cuDeviceGetName, "cuDeviceGetName", (char *name, int length, int device), (name, length, device))                 \
  X(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int *value, int attribute, int device), (value, attribute, device)) \
  X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t *bytes, int device), (bytes, device))                            \
  X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (void **context, int device), (context, device))            \
  X(cuCtxSetCurrent, "cuCtxSetCurrent", (void *context), (context))                                                   \
  X(cuMemAlloc, "cuMemAlloc_v2", (flow_address *address, size_t bytes), (address, bytes))                             \
  X(cuMemFree, "cuMemFree_v2", (flow_address address), (address))                                                     \
  X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t *free, size_t *total), (free, total))                                    \
  X(cuMemHostAlloc, "cuMemHostAlloc", (void **memory, size_t bytes, unsigned flags), (memory, bytes, flags))          \
  X(cuMemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2", (flow_address *address, void *memory, unsigned flags),   \
    (address, memory, flags))                                                                                         \
  X(cuMemFreeHost, "cuMemFreeHost", (void *memory), (memory))                                                         \
  X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (flow_address to, const void *from, size_t bytes, void *stream),       \
    (to, from, bytes, stream))                                                                                        \
  X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *to, flow_address from, size_t bytes, void *stream),             \
    (to, from, bytes, stream))                                                                                        \
  X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2", (flow_address to, flow_address from, size_t bytes, void *stream),      \
    (to, from, bytes, stream))                                                                                        \
  X(cuMemsetD32Async, "cuMemsetD32Async", (flow_address to, unsigned value, size_t words, void *stream),              \
    (to, value, words, stream))                                                                                       \
  X(cuStreamCreate, "cuStreamCreate", (void **stream, unsigned flags), (stream, flags))                               \
  X(cuStreamDestroy, "cuStreamDestroy_v2", (void *stream), (stream))                                                  \
  X(cuStreamSynchronize, "cuStreamSynchronize", (void *stream), (stream))                                             \
  X(cuStreamQuery, "cuStreamQuery", (void *stream), (stream))                                                         \
  X(cuDeviceGetUuid, "cuDeviceGetUuid_v2", (unsigned char uuid[16], int device), (uuid, device))                      \
  X(cuStreamWaitEvent, "cuStreamWaitEvent", (void *stream, void *event, unsigned flags), (stream, event, flags))      \
  X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (void *stream, int mode), (stream, mode))                        \
  X(cuStreamEndCapture, "cuStreamEndCapture", (void *stream, void **graph), (stream, graph))                          \
  X(cuGraphInstantiate, "cuGraphInstantiateWithFlags", (void **exec, void *graph, unsigned long long flags),          \
    (exec, graph, flags))                                                                                             \
  X(cuGraphLaunch, "cuGraphLaunch", (void *exec, void *stream), (exec, stream))                                       \
  X(cuGraphExecDestroy, "cuGraphExecDestroy", (void *exec), (exec))                                                   \
  X(cuGraphDestroy, "cuGraphDestroy", (void *graph), (graph))                                                         \
  X(cuEventCreate, "cuEventCreate", (void **event, unsigned flags), (event, flags))                                   \
  X(cuEventRecord, "cuEventRecord", (void *event, void *stream), (event, stream))                                     \
  X(cuEventSynchronize, "cuEventSynchronize", (void *event), (event))                                                 \
  X(cuEventElapsedTime, "cuEventElapsedTime", (float *milliseconds, void *start, void *end),                          \
    (milliseconds, start, end))                                                                                       \
  X(cuEventDestroy, "cuEventDestroy_v2", (void *event), (event))                                                      \
  X(cuModuleLoadData, "cuModuleLoadData", (void **module, const void *image), (module, image))                        \
  X(cuModuleUnload, "cuModuleUnload", (void *module), (module))                                                       \
  X(cuModuleGetFunction, "cuModuleGetFunction", (void **function, void *module, const char *name),                    \
    (function, module, name))                                                                                         \
  X(cuFuncSetAttribute, "cuFuncSetAttribute", (void *function, int attribute, int value),                             \
    (function, attribute, value))                                                                                     \
  X(cuLaunchKernel, "cuLaunchKernel",                                                                                 \
    (void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,   \
     void *stream, void **parameters, void **extra),                                                                  \
    (function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra))

// Those that a driver may lack; without it they give FLOW_CUDA_MISSING.
#define FLOW_DRIVER_EXTRAS(X)                                                                                         \
  X(cuStreamGetCaptureInfo, "cuStreamGetCaptureInfo_v2",                                                              \
    (void *stream, int *status, uint64_t *id, void **graph, void *const **nodes, size_t *count),                      \
    (stream, status, id, graph, nodes, count))                                                                        \
  X(cuStreamUpdateCaptureDependencies, "cuStreamUpdateCaptureDependencies",                                           \
    (void *stream, void **nodes, size_t count, unsigned flags), (stream, nodes, count, flags))                        \
  X(cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled",                                                                 \
    (void *map, int type, unsigned rank, void *address, const uint64_t *sizes, const uint64_t *strides,               \
     const unsigned *boxes, const unsigned *steps, int interleave, int swizzle, int promotion, int fill),             \
    (map, type, rank, address, sizes, strides, boxes, steps, interleave, swizzle, promotion, fill))

#define FLOW_NVRTC_FUNCTIONS(X)                                                                                       \
  X(nvrtcVersion, "nvrtcVersion", (int *major, int *minor), (major, minor))                                           \
  X(nvrtcCreateProgram, "nvrtcCreateProgram",                                                                         \
    (void **program, const char *source, const char *name, int headers, const char *const *texts,                     \
     const char *const *names),                                                                                       \
    (program, source, name, headers, texts, names))                                                                   \
  X(nvrtcDestroyProgram, "nvrtcDestroyProgram", (void **program), (program))                                          \
  X(nvrtcCompileProgram, "nvrtcCompileProgram", (void *program, int count, const char *const *options),               \
    (program, count, options))                                                                                        \
  X(nvrtcGetCUBINSize, "nvrtcGetCUBINSize", (void *program, size_t *bytes), (program, bytes))                         \
  X(nvrtcGetCUBIN, "nvrtcGetCUBIN", (void *program, char *cubin), (program, cubin))                                   \
  X(nvrtcGetProgramLogSize, "nvrtcGetProgramLogSize", (void *program, size_t *bytes), (program, bytes))               \
  X(nvrtcGetProgramLog, "nvrtcGetProgramLog", (void *program, char *log), (program, log))                             \
  X(nvrtcGetNumSupportedArchs, "nvrtcGetNumSupportedArchs", (int *count), (count))                                    \
  X(nvrtcGetSupportedArchs, "nvrtcGetSupportedArchs", (int *archs), (archs))

/// What cublasLtMatmulAlgoGetHeuristic fills in.
typedef struct {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
} flow_lt_choice;

#define FLOW_LT_FUNCTIONS(X)                                                                                          \
  X(cublasLtCreate, "cublasLtCreate", (void **handle), (handle))                                                      \
  X(cublasLtMatmulDescCreate, "cublasLtMatmulDescCreate", (void **desc, int compute, int scale),                      \
    (desc, compute, scale))                                                                                           \
  X(cublasLtMatmulDescDestroy, "cublasLtMatmulDescDestroy", (void *desc), (desc))                                     \
  X(cublasLtMatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute",                                                 \
    (void *desc, int attribute, const void *value, size_t bytes), (desc, attribute, value, bytes))                    \
  X(cublasLtMatrixLayoutCreate, "cublasLtMatrixLayoutCreate",                                                         \
    (void **layout, int type, uint64_t rows, uint64_t columns, int64_t leading), (layout, type, rows, columns, leading)) \
  X(cublasLtMatrixLayoutDestroy, "cublasLtMatrixLayoutDestroy", (void *layout), (layout))                             \
  X(cublasLtMatrixLayoutSetAttribute, "cublasLtMatrixLayoutSetAttribute",                                             \
    (void *layout, int attribute, const void *value, size_t bytes), (layout, attribute, value, bytes))                \
  X(cublasLtMatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate", (void **preference), (preference))              \
  X(cublasLtMatmulPreferenceDestroy, "cublasLtMatmulPreferenceDestroy", (void *preference), (preference))             \
  X(cublasLtMatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute",                                     \
    (void *preference, int attribute, const void *value, size_t bytes), (preference, attribute, value, bytes))        \
  X(cublasLtMatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic",                                                 \
    (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted,                      \
     flow_lt_choice *choices, int *found),                                                                            \
    (handle, desc, a, b, c, d, preference, wanted, choices, found))                                                   \
  X(cublasLtMatmul, "cublasLtMatmul",                                                                                 \
    (void *handle, void *desc, const void *alpha, flow_address a, void *la, flow_address b, void *lb,                 \
     const void *beta, flow_address c, void *lc, flow_address d, void *ld, const void *algorithm,                     \
     flow_address workspace, size_t bytes, void *stream),                                                             \
    (handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algorithm, workspace, bytes, stream))

/// What NCCL's ranks find each other by (NCCL User Guide, 2.30).
typedef struct {
  char bytes[128];
} flow_nccl_id;

#define FLOW_NCCL_FUNCTIONS(X)                                                                                        \
  X(ncclGetVersion, "ncclGetVersion", (int *version), (version))                                                      \
  X(ncclGetUniqueId, "ncclGetUniqueId", (flow_nccl_id *id), (id))                                                     \
  X(ncclCommInitRank, "ncclCommInitRank", (void **ranks, int count, flow_nccl_id id, int rank),                       \
    (ranks, count, id, rank))                                                                                         \
  X(ncclCommDestroy, "ncclCommDestroy", (void *ranks), (ranks))                                                       \
  X(ncclCommAbort, "ncclCommAbort", (void *ranks), (ranks))                                                           \
  X(ncclCommGetAsyncError, "ncclCommGetAsyncError", (void *ranks, int *status), (ranks, status))                      \
  X(ncclGroupStart, "ncclGroupStart", (void), ())                                                                     \
  X(ncclGroupEnd, "ncclGroupEnd", (void), ())                                                                         \
  X(ncclReduce, "ncclReduce",                                                                                         \
    (flow_address from, flow_address to, size_t count, int type, int op, int owner, void *ranks, void *stream),       \
    (from, to, count, type, op, owner, ranks, stream))                                                                \
  X(ncclAllReduce, "ncclAllReduce",                                                                                   \
    (flow_address from, flow_address to, size_t count, int type, int op, void *ranks, void *stream),                  \
    (from, to, count, type, op, ranks, stream))                                                                       \
  X(ncclBroadcast, "ncclBroadcast",                                                                                   \
    (flow_address from, flow_address to, size_t count, int type, int owner, void *ranks, void *stream),               \
    (from, to, count, type, owner, ranks, stream))

#define FLOW_DECLARE(name, symbol, parameters, arguments) int flow_##name parameters;
FLOW_DRIVER_FUNCTIONS(FLOW_DECLARE)
FLOW_DRIVER_EXTRAS(FLOW_DECLARE)
FLOW_NVRTC_FUNCTIONS(FLOW_DECLARE)
FLOW_LT_FUNCTIONS(FLOW_DECLARE)
FLOW_NCCL_FUNCTIONS(FLOW_DECLARE)
#undef FLOW_DECLARE
/// The library's version, such as 130000.
size_t flow_cublasLtGetVersion(void);
/// What NCCL's status means, and what its last error was (0 where the library doesn't say).
const char *flow_ncclGetErrorString(int status);
const char *flow_ncclGetLastError(void *ranks);

enum { FLOW_CUDA_MISSING = -1 };
enum { FLOW_CUDA_DRIVER, FLOW_CUDA_NVRTC, FLOW_CUDA_LT, FLOW_CUDA_NCCL };
/// Takes the functions of one of the libraries from `handle`, which dlopen gave: the first symbol that it lacks, or 0.
const char *flow_cuda_bind(int library, void *handle);

#endif
