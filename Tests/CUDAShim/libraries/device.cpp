// The device, its context, and errors.
#include "driver.hpp"

#include <dlfcn.h>

Driver &driver() {
  static Driver one;
  return one;
}

static thread_local bool hasContext = false;

static Fault parse(const char *text) {
  Fault fault;
  if (!text) return fault;
  const char *equals = strchr(text, '=');
  fault.kind = equals ? std::string(text, equals) : text;
  if (equals) fault.at = atoll(equals + 1);
  return fault;
}

/// Sets or, given 0, ends the fault; also forgets an error that stayed. For tests.
EXPORT void shim_set_fault(const char *text) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  driver().fault = parse(text);
  driver().launches = 0;
  driver().sticky = done;
  driver().queue.clear();
}

EXPORT void shim_failed(int status, const std::string &why) {
  fprintf(stderr, "cuda shim: %s\n", why.c_str());
  if (!driver().sticky) driver().sticky = status;
}

int ready() {
  if (!driver().started) return notInitialized;
  if (driver().sticky) return driver().sticky;
  return hasContext ? done : invalidContext;
}

EXPORT int cuInit(unsigned) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  if (!driver().started) {
    if (const char *text = getenv("FLOW_SHIM_FAULT")) driver().fault = parse(text);
    // Modules find the emulator's functions among the global symbols.
    Dl_info here;
    if (!dladdr((void *)&cuInit, &here) || !dlopen(here.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD))
      return notInitialized;
  }
  driver().started = true;
  return driver().fault.kind == "no-device" ? noDevice : done;
}
EXPORT int cuDriverGetVersion(int *version) {
  const char *text = getenv("FLOW_SHIM_FAULT");
  Fault fault = driver().started ? driver().fault : parse(text);
  *version = fault.kind == "driver" ? (int)fault.at : 13000;
  return done;
}
EXPORT int cuDeviceGetCount(int *count) {
  *count = driver().fault.kind == "no-device" ? 0 : 1;
  return driver().started ? done : notInitialized;
}
EXPORT int cuDeviceGet(int *device, int ordinal) {
  *device = 0;
  return ordinal == 0 ? done : invalidDevice;
}
EXPORT int cuDeviceGetName(char *name, int length, int) {
  snprintf(name, (size_t)length, "the CPU, as a CUDA device");
  return done;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int) {
  const char *text = getenv("FLOW_SHIM_CAPABILITY");
  int capability = text ? atoi(text) : 80;
  switch (attribute) {
    case 1: *value = 1024; return done;              // MAX_THREADS_PER_BLOCK
    case 8: *value = 48 << 10; return done;          // MAX_SHARED_MEMORY_PER_BLOCK
    case 10: *value = 32; return done;               // WARP_SIZE
    case 16: *value = 4; return done;                // MULTIPROCESSOR_COUNT
    case 38: *value = 4 << 20; return done;          // L2_CACHE_SIZE
    case 75: *value = capability / 10; return done;  // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = capability % 10; return done;  // COMPUTE_CAPABILITY_MINOR
    case 81: *value = 164 << 10; return done;        // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 97: *value = (capability >= 90 ? 227 : 163) << 10; return done;  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: return invalidValue;
  }
}
EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int) {
  *bytes = Driver::total;
  return done;
}
EXPORT int cuDeviceGetUuid(unsigned char *uuid, int) {
  memset(uuid, 1, 16);
  return done;
}
EXPORT int cuDevicePrimaryCtxRetain(void **context, int) {
  if (!driver().started) return notInitialized;
  if (driver().fault.kind == "exclusive") return unavailable;
  *context = &driver();
  return done;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int) { return done; }
EXPORT int cuCtxSetCurrent(void *context) {
  if (context && context != &driver()) return invalidContext;
  hasContext = context;
  return done;
}
EXPORT int cuCtxSynchronize() {
  WITH_CONTEXT
  return drain();
}

static const struct {
  int status;
  const char *name, *text;
} names[] = {
    {done, "CUDA_SUCCESS", "no error"},
    {invalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {outOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {notInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {unavailable, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {noDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {invalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {invalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {invalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {eccUncorrectable, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {invalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {notFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {illegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {captureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
};
EXPORT int cuGetErrorName(int status, const char **text) {
  for (auto &name : names)
    if (name.status == status) return *text = name.name, done;
  return *text = nullptr, invalidValue;
}
EXPORT int cuGetErrorString(int status, const char **text) {
  for (auto &name : names)
    if (name.status == status) return *text = name.text, done;
  return *text = nullptr, invalidValue;
}
