// What the parts of the stand-in for libcuda share. It does what the driver's reference says where flow relies on it:
// work is put in a queue and done when something waits for it, so that a missing wait shows; errors of a kernel come
// from the next wait and stay; host memory that isn't page-locked is read before a copy returns.
#pragma once
#define SHIM_LIBRARY
#include "../shim.hpp"

#include <deque>
#include <functional>
#include <map>
#include <mutex>

typedef unsigned long long u64;

// CUresult
enum Status {
  done = 0,
  invalidValue = 1,
  outOfMemory = 2,
  notInitialized = 3,
  unavailable = 46,
  noDevice = 100,
  invalidDevice = 101,
  invalidImage = 200,
  invalidContext = 201,
  eccUncorrectable = 214,
  invalidHandle = 400,
  notFound = 500,
  illegalAddress = 700,
  captureUnsupported = 900,
};

#define EXPORT extern "C" __attribute__((visibility("default")))

/// What shim_entries of a module holds for a kernel.
struct Entry {
  const char *name;
  void (*call)(void **arguments);
  const unsigned *sizes;
  unsigned count, threads;
};

struct Function;
struct Module {
  void *library;
  const Entry *entries;
  char *shared, *sharedEnd;
  std::string digest;
  std::map<const Entry *, Function *> functions = {};
};

struct Function {
  const Entry *entry;
  Module *module;
  int sharedLimit = 48 << 10;
};

/// Where FLOW_SHIM_RECORD names a folder: keeps the first launch of each kernel that is small enough for a check of races
/// (`races.cpp`), with the memory that it finds.
void recordLaunch(const Function &function, const shim::Request &request, void **arguments);

typedef std::function<void()> Action;

struct Graph {
  std::vector<Action> actions;
  /// What each action follows, by number; a node's handle is its number and one more.
  std::vector<std::vector<void *>> before;
};

struct Event;
/// What a stream does next: an action, or what waits for a recording of an event, counted from 1.
struct Item {
  Action action;
  Event *event = nullptr;
  u64 recording = 0;
};

struct Stream {
  std::deque<Item> queue = {};
  bool capturing = false;
  int mode = 0;
  Graph *graph = nullptr;
  /// What the next captured action follows.
  std::vector<void *> last;
};

/// A fault that a test asks for by FLOW_SHIM_FAULT, such as `oom-at=1000000`, or by `shim_set_fault`.
struct Fault {
  std::string kind;
  long long at = 0;
};

struct Driver {
  std::recursive_mutex lock;
  bool started = false;
  Fault fault;
  long long launches = 0;
  /// The first error of the work done; it stays.
  int sticky = done;
  /// The first is that of calls that name none.
  std::vector<Stream *> streams{new Stream};
  size_t used = 0;
  static constexpr size_t total = 8ull << 30;
};

Driver &driver();
/// `done`, or why a call that needs a context can't be made.
int ready();
/// Puts work on a stream, or in the graph that it records.
EXPORT int shim_enqueue(void *stream, Action action);
/// Does all that waits, and gives the error.
int drain();
/// Does what waits on a stream, and of others only what that waits for, and gives the error.
int finish(void *stream);
/// Whether [address, +bytes) lies in one allocation of the device.
EXPORT bool shim_is_device(u64 address, size_t bytes);
/// The work done now has failed.
EXPORT void shim_failed(int status, const std::string &why);

#define WITH_CONTEXT \
  std::lock_guard<std::recursive_mutex> guard(driver().lock); \
  if (int status = ready()) return status;
