// The device, its context, and errors.
#include "driver.hpp"

#include <dlfcn.h>

Driver &driver() {
  static Driver one;
  return one;
}

/// Each of the devices has a context, whose handle is the driver's address and the device's number.
static thread_local int current = -1;

/// What the thread's work goes to; -1 before it has chosen.
EXPORT int shim_device() { return current; }

/// The devices that are to be seen: FLOW_SHIM_DEVICES (one unless it says more), those of CUDA_VISIBLE_DEVICES where that is set.
static const std::vector<int> &devices() {
  static const std::vector<int> all = [] {
    std::vector<int> found;
    const char *text = getenv("FLOW_SHIM_DEVICES"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    int count = text ? atoi(text) : 1;
    if (!visible)
      for (int i = 0; i < count; i++) found.push_back(i);
    while (visible && *visible) {
      char *end;
      long number = strtol(visible, &end, 10);
      // As CUDA does: what follows a device that there isn't is not visible.
      if (end == visible || number < 0 || number >= count) break;
      found.push_back((int)number);
      visible = *end == ',' ? end + 1 : end;
    }
    return found;
  }();
  return all;
}

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
  for (Stream *stream : driver().streams) stream->queue.clear();
}

EXPORT void shim_failed(int status, const std::string &why) {
  fprintf(stderr, "cuda shim: %s\n", why.c_str());
  if (!driver().sticky) driver().sticky = status;
}

int ready() {
  if (!driver().started) return notInitialized;
  if (driver().sticky) return driver().sticky;
  return current >= 0 ? done : invalidContext;
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
  return driver().fault.kind == "no-device" || devices().empty() ? noDevice : done;
}
EXPORT int cuDriverGetVersion(int *version) {
  const char *text = getenv("FLOW_SHIM_FAULT");
  Fault fault = driver().started ? driver().fault : parse(text);
  *version = fault.kind == "driver" ? (int)fault.at : 13000;
  return done;
}
EXPORT int cuDeviceGetCount(int *count) {
  *count = driver().fault.kind == "no-device" ? 0 : (int)devices().size();
  return driver().started ? done : notInitialized;
}
EXPORT int cuDeviceGet(int *device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < (int)devices().size() ? done : invalidDevice;
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
EXPORT int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
  memset(uuid, 1 + devices()[(size_t)device], 16);
  return done;
}
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
  if (!driver().started) return notInitialized;
  if (driver().fault.kind == "exclusive") return unavailable;
  *context = (char *)&driver() + device;
  return done;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int) { return done; }
EXPORT int cuCtxSetCurrent(void *context) {
  const long device = context ? (char *)context - (char *)&driver() : -1;
  if (device < -1 || device >= (long)devices().size()) return invalidContext;
  current = (int)device;
  return done;
}
/// What waits is done here too: nothing else would ever do it.
EXPORT int cuStreamQuery(void *stream) {
  WITH_CONTEXT
  if (stream && ((Stream *)stream)->capturing) return captureUnsupported;
  return drain();
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
