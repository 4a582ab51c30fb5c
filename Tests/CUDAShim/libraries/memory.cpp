// Memory of the device, and the host's that is page-locked: each allocation's end lies at a closed page, and holds no
// numbers at first.
#include "driver.hpp"


#include <fstream>
#include <memory>
#include <set>

namespace {
/// A part of the address space that nothing else takes, so that a check of races can put the same things at the same
/// addresses.
char *nextPlace = (char *)0x7ea000000000;

struct Allocation {
  shim::Pages pages;
  size_t bytes;
  u64 address;
  /// Whether it is the host's, and whether a kernel may use it.
  bool isHosts = false, isMapped = false;
  // 256 is what the driver promises; what that leaves before the closed page is looked at when it is freed.
  explicit Allocation(size_t bytes)
      : pages((bytes + 255) / 256 * 256, nextPlace), bytes(bytes),
        address((u64)(pages.start + pages.bytes - (bytes + 255) / 256 * 256)) {
    memset(pages.start, 0xff, pages.bytes);
    nextPlace = pages.start + pages.bytes + 4096;
  }
  bool overrun() const {
    for (const char *p = (char *)address + bytes; p < pages.start + pages.bytes; p++)
      if (*p != (char)0xff) return true;
    return false;
  }
};
std::map<u64, std::unique_ptr<Allocation>> allocations;
size_t pinned = 0;

/// What [address, +bytes) lies in.
Allocation *holder(u64 address, size_t bytes) {
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return nullptr;
  --after;
  return address + bytes <= after->second->address + after->second->bytes ? after->second.get() : nullptr;
}

bool isPinned(const void *memory) {
  Allocation *found = holder((u64)memory, 1);
  return found && found->isHosts;
}

/// Ends an allocation of the device or the host.
int release(u64 address, bool isHosts) {
  auto found = allocations.find(address);
  if (found == allocations.end() || found->second->isHosts != isHosts) return invalidValue;
  drain();
  if (found->second->overrun()) shim_failed(illegalAddress, "something wrote past the end of an allocation");
  (isHosts ? pinned : driver().used) -= found->second->bytes;
  allocations.erase(found);
  return ready();
}
}  // namespace

EXPORT bool shim_is_device(u64 address, size_t bytes) {
  Allocation *found = holder(address, bytes);
  return found && (!found->isHosts || found->isMapped);
}

EXPORT int cuMemAlloc_v2(u64 *address, size_t bytes) {
  WITH_CONTEXT
  if (!bytes) return invalidValue;
  size_t limit = driver().fault.kind == "oom-at" ? (size_t)driver().fault.at : Driver::total;
  if (driver().used + bytes > limit) return outOfMemory;
  auto made = std::make_unique<Allocation>(bytes);
  *address = made->address;
  driver().used += bytes;
  allocations[made->address] = std::move(made);
  return done;
}
EXPORT int cuMemFree_v2(u64 address) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  return release(address, false);
}
EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total) {
  WITH_CONTEXT
  *free = Driver::total - driver().used, *total = Driver::total;
  return done;
}
EXPORT int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  WITH_CONTEXT
  if (!bytes) return invalidValue;
  if (driver().fault.kind == "host-oom-at" && pinned + bytes > (size_t)driver().fault.at) return outOfMemory;
  auto made = std::make_unique<Allocation>(bytes);
  made->isHosts = true, made->isMapped = flags & 2;
  *memory = (void *)made->address;
  pinned += bytes;
  allocations[made->address] = std::move(made);
  return done;
}
EXPORT int cuMemHostGetDevicePointer_v2(u64 *address, void *memory, unsigned flags) {
  WITH_CONTEXT
  Allocation *found = holder((u64)memory, 1);
  if (flags || !found || !found->isMapped) return invalidValue;
  *address = (u64)memory;
  return done;
}
EXPORT int cuMemFreeHost(void *memory) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  return release((u64)memory, true);
}

EXPORT int cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t bytes, void *stream) {
  WITH_CONTEXT
  if (!shim_is_device(to, bytes)) return invalidValue;
  if (isPinned(from)) return shim_enqueue(stream, [=] { memcpy((void *)to, from, bytes); });
  if (stream && ((Stream *)stream)->capturing) return captureUnsupported;
  auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
  return shim_enqueue(stream, [=] { memcpy((void *)to, staged->data(), bytes); });
}
EXPORT int cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t bytes, void *stream) {
  WITH_CONTEXT
  if (!shim_is_device(from, bytes)) return invalidValue;
  if (!isPinned(to) && stream && ((Stream *)stream)->capturing) return captureUnsupported;
  int status = shim_enqueue(stream, [=] { memcpy(to, (const void *)from, bytes); });
  return status || isPinned(to) ? status : finish(stream);
}
EXPORT int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void *stream) {
  WITH_CONTEXT
  if (!shim_is_device(to, bytes) || !shim_is_device(from, bytes)) return invalidValue;
  return shim_enqueue(stream, [=] { memmove((void *)to, (const void *)from, bytes); });
}
EXPORT int cuMemsetD8Async(u64 to, unsigned char value, size_t count, void *stream) {
  WITH_CONTEXT
  if (!shim_is_device(to, count)) return invalidValue;
  return shim_enqueue(stream, [=] { memset((void *)to, value, count); });
}
EXPORT int cuMemsetD32Async(u64 to, unsigned value, size_t count, void *stream) {
  WITH_CONTEXT
  if (to % 4 || !shim_is_device(to, count * 4)) return invalidValue;
  return shim_enqueue(stream, [=] { std::fill_n((unsigned *)to, count, value); });
}

void recordLaunch(const Function &function, const shim::Request &request, void **arguments) {
  const char *folder = getenv("FLOW_SHIM_RECORD");
  size_t blocks = (size_t)request.grid.x * request.grid.y * request.grid.z;
  if (!folder || !*folder || blocks > 12) return;
  static std::set<std::string> seen;
  static int generated = 0;
  std::string name = function.module->digest + "-" + function.entry->name;
  // Of the kernels made for a program there are hundreds, all made alike.
  bool isGroup = !strcmp(function.entry->name, "group");
  if ((isGroup && generated >= 40) || !seen.insert(name).second) return;
  generated += isGroup;
  std::ofstream file(std::string(folder) + "/" + name + ".launch", std::ios::binary);
  auto put = [&](const auto &value) { file.write((const char *)&value, sizeof value); };
  put(request.grid), put(request.size), put(request.shared), put(function.entry->count);
  for (unsigned i = 0; i < function.entry->count; i++) {
    put(function.entry->sizes[i]);
    file.write((const char *)arguments[i], function.entry->sizes[i]);
  }
  put((u64)allocations.size());
  for (auto &entry : allocations) {
    const shim::Pages &pages = entry.second->pages;
    put((u64)pages.start), put((u64)pages.bytes);
    for (size_t at = 0; at < pages.bytes; at += 4096) {
      const char *page = pages.start + at;
      // 1: all bytes are like the next; 0: the page follows.
      bool same = !memcmp(page, page + 1, 4095);
      put((char)same);
      file.write(page, same ? 1 : 4096);
    }
  }
}
