// Modules and launches. A module's image is a mark, a length of 8 bytes, the 32 letters of its source's digest, and a
// shared library.
#include "driver.hpp"

#include <dlfcn.h>

#include <fstream>

static const char magic[8] = {'F', 'L', 'O', 'W', 'S', 'H', 'I', 'M'};

EXPORT int cuModuleLoadData(void **module, const void *image) {
  WITH_CONTEXT
  if (memcmp(image, magic, 8)) return invalidImage;
  u64 bytes;
  memcpy(&bytes, (const char *)image + 8, 8);
  std::string digest((const char *)image + 16, 32);
  Dl_info here;
  dladdr((void *)&cuModuleLoadData, &here);
  std::string path = here.dli_fname, library = path.substr(0, path.rfind('/')) + "/kernels/" + digest + ".so";
  if (access(library.c_str(), R_OK) != 0) {
    // Compiled by another checkout, and kept elsewhere since.
    std::string made = library + std::to_string(getpid());
    std::ofstream(made, std::ios::binary).write((const char *)image + 48, (std::streamsize)bytes);
    rename(made.c_str(), library.c_str());
  }
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    fprintf(stderr, "cuda shim: %s\n", dlerror());
    return invalidImage;
  }
  auto bounds = (void (*)(char **, char **))dlsym(handle, "shim_shared_bounds");
  auto entries = (const Entry *)dlsym(handle, "shim_entries");
  if (!bounds || !entries) return invalidImage;
  Module *made = new Module{handle, entries, nullptr, nullptr, digest};
  bounds(&made->shared, &made->sharedEnd);
  *module = made;
  return done;
}
EXPORT int cuModuleUnload(void *module) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  drain();
  dlclose(((Module *)module)->library);
  delete (Module *)module;
  return done;
}
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name) {
  WITH_CONTEXT
  if (!module) return invalidHandle;
  // A function is the same however often it's asked for, and so are its limits.
  std::map<const Entry *, Function *> &known = ((Module *)module)->functions;
  for (const Entry *entry = ((Module *)module)->entries; entry->name; entry++)
    if (!strcmp(entry->name, name)) {
      Function *&one = known[entry];
      if (!one) one = new Function{entry, (Module *)module};
      return *function = one, done;
    }
  return notFound;
}
EXPORT int cuFuncSetAttribute(void *function, int attribute, int value) {
  WITH_CONTEXT
  // MAX_DYNAMIC_SHARED_SIZE_BYTES, PREFERRED_SHARED_MEMORY_CARVEOUT
  if (attribute == 9) return done;
  if (attribute != 8 || value > 227 << 10) return invalidValue;
  ((Function *)function)->sharedLimit = value;
  return done;
}
EXPORT int cuFuncGetAttribute(int *value, int attribute, void *function) {
  WITH_CONTEXT
  if (attribute != 0) return invalidValue;  // MAX_THREADS_PER_BLOCK
  *value = (int)((Function *)function)->entry->threads;
  return done;
}
/// Maps as flow makes them: of two bytes, four dimensions, boxes of 64 x 64 swizzled by 128 bytes, zeros outside.
EXPORT int cuTensorMapEncodeTiled(
    void *map, int type, unsigned rank, void *address, const u64 *sizes, const u64 *strides, const unsigned *boxes,
    const unsigned *steps, int interleave, int swizzle, int, int fill) {
  if (!map || (size_t)map % 64 || !address || (size_t)address % 16) return invalidValue;
  // CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B
  if (type != 9 || rank != 4 || interleave || swizzle != 3 || fill) return invalidValue;
  shim_map made = {shim_map::right, (u64)address, {}, {}};
  for (int i = 0; i < 4; i++) {
    if (!sizes[i] || sizes[i] > 1ull << 32 || boxes[i] != (i < 2 ? 64 : 1) || steps[i] != 1) return invalidValue;
    if (i > 0 && (strides[i - 1] % 16 || strides[i - 1] >= 1ull << 40)) return invalidValue;
    made.sizes[i] = sizes[i], made.strides[i] = i ? strides[i - 1] : 2;
  }
  memset(map, 0, 128);
  memcpy(map, &made, sizeof made);
  return done;
}

/// A launch's arguments, copied.
struct Arguments {
  std::vector<u64> words;
  std::vector<void *> pointers;
};

EXPORT int cuLaunchKernel(
    void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
    void *stream, void **parameters, void **extra) {
  WITH_CONTEXT
  Function *f = (Function *)function;
  if (!f) return invalidHandle;
  u64 threads = (u64)bx * by * bz;
  if (!gx || !gy || !gz || !threads || extra || threads > 1024 || bz > 64) return invalidValue;
  if (gx > 0x7fffffff || gy > 65535 || gz > 65535) return invalidValue;
  if (threads > f->entry->threads || shared > (unsigned)f->sharedLimit) return invalidValue;
  Driver &d = driver();
  auto arguments = std::make_shared<Arguments>();
  for (unsigned i = 0; i < f->entry->count; i++) {
    arguments->words.resize(arguments->words.size() + (f->entry->sizes[i] + 7) / 8);
    memcpy(
        arguments->words.data() + arguments->words.size() - (f->entry->sizes[i] + 7) / 8, parameters[i],
        f->entry->sizes[i]);
  }
  size_t at = 0;
  for (unsigned i = 0; i < f->entry->count; i++) {
    arguments->pointers.push_back(arguments->words.data() + at);
    at += (f->entry->sizes[i] + 7) / 8;
  }
  return shim_enqueue(stream, [=, &d] {
    if (d.fault.kind == "lost-at" && d.launches++ >= d.fault.at)
      return shim_failed(eccUncorrectable, "the device is lost, as FLOW_SHIM_FAULT asks");
    struct Call {
      const Entry *entry;
      void **arguments;
    } call = {f->entry, arguments->pointers.data()};
    shim::Request request{{gx, gy, gz}, {bx, by, bz}, shared, shim::scheduleOfEnvironment()};
    request.body = [](void *call) { ((Call *)call)->entry->call(((Call *)call)->arguments); };
    request.context = &call;
    request.statics = f->module->shared;
    request.static_bytes = (size_t)(f->module->sharedEnd - f->module->shared);
    recordLaunch(*f, request, arguments->pointers.data());
    std::string error = shim::run(request);
    if (!error.empty()) shim_failed(illegalAddress, std::string("kernel ") + f->entry->name + ": " + error);
  });
}
