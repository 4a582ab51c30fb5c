#include "flow_cuda_api.h"

#include <dlfcn.h>

#define FIELD(name, symbol, parameters, arguments) int(*name) parameters;
static struct {
  FLOW_DRIVER_FUNCTIONS(FIELD)
  FLOW_DRIVER_EXTRAS(FIELD)
  FLOW_NVRTC_FUNCTIONS(FIELD)
  FLOW_LT_FUNCTIONS(FIELD)
  size_t (*cublasLtGetVersion)(void);
  FLOW_NCCL_FUNCTIONS(FIELD)
  const char *(*ncclGetErrorString)(int);
  const char *(*ncclGetLastError)(void *);
} table;

#define DEFINE(name, symbol, parameters, arguments) \
  int flow_##name parameters { return table.name arguments; }
#define DEFINE_EXTRA(name, symbol, parameters, arguments) \
  int flow_##name parameters { return table.name ? table.name arguments : FLOW_CUDA_MISSING; }
FLOW_DRIVER_FUNCTIONS(DEFINE)
FLOW_DRIVER_EXTRAS(DEFINE_EXTRA)
FLOW_NVRTC_FUNCTIONS(DEFINE)
FLOW_LT_FUNCTIONS(DEFINE)
size_t flow_cublasLtGetVersion(void) { return table.cublasLtGetVersion(); }
FLOW_NCCL_FUNCTIONS(DEFINE)
const char *flow_ncclGetErrorString(int status) { return table.ncclGetErrorString(status); }
const char *flow_ncclGetLastError(void *ranks) { return table.ncclGetLastError ? table.ncclGetLastError(ranks) : 0; }

#define BIND(name, symbol, parameters, arguments) \
  if (!(table.name = dlsym(handle, symbol))) return symbol;
#define BIND_EXTRA(name, symbol, parameters, arguments) table.name = dlsym(handle, symbol);
const char *flow_cuda_bind(int library, void *handle) {
  switch (library) {
    case FLOW_CUDA_DRIVER:
      FLOW_DRIVER_FUNCTIONS(BIND)
      FLOW_DRIVER_EXTRAS(BIND_EXTRA)
      break;
    case FLOW_CUDA_NVRTC: FLOW_NVRTC_FUNCTIONS(BIND) break;
    case FLOW_CUDA_LT:
      FLOW_LT_FUNCTIONS(BIND)
      if (!(table.cublasLtGetVersion = dlsym(handle, "cublasLtGetVersion"))) return "cublasLtGetVersion";
      break;
    case FLOW_CUDA_NCCL:
      FLOW_NCCL_FUNCTIONS(BIND)
      if (!(table.ncclGetErrorString = dlsym(handle, "ncclGetErrorString"))) return "ncclGetErrorString";
      table.ncclGetLastError = dlsym(handle, "ncclGetLastError");
      break;
  }
  return 0;
}
