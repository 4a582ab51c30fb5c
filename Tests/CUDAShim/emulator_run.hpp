// Blocks, one by one, and the turns that their threads take.
#pragma once
#include <algorithm>
#include <memory>
#ifdef SHIM_RACES
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

namespace shim {
/// 0: warps and lanes ascending; 1: descending; else shuffled by this seed. FLOW_SHIM_SCHEDULE chooses
/// (`ascending`, `descending` or a number).
inline unsigned scheduleOfEnvironment() {
  const char *text = getenv("FLOW_SHIM_SCHEDULE");
  if (!text || !*text) return 2;
  if (!strcmp(text, "ascending")) return 0;
  if (!strcmp(text, "descending")) return 1;
  return (unsigned)atoi(text) + 2;
}

struct Random {
  uint64_t state;
  unsigned below(unsigned count) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((state >> 33) % count);
  }
  void shuffle(unsigned *items, unsigned count) {
    for (unsigned i = count; i > 1; i--) std::swap(items[i - 1], items[below(i)]);
  }
};

struct Request {
  dim3 grid, size;
  size_t shared = 0;  // dynamic, bytes
  unsigned schedule = 2;
  void (*body)(void *) = nullptr;
  void *context = nullptr;
  void *statics = nullptr;  // the module's static shared memory, poisoned before each block
  size_t static_bytes = 0;
};

/// Wakes the lanes of a warp call that all named lanes have reached; false when none could be woken.
SHIM_RAW inline bool wake(Block &b, unsigned warp) {
  bool woken = false;
  Fibre *lanes = b.fibres + warp * 32;
  unsigned count = std::min(32u, b.count - warp * 32);
  for (unsigned i = 0; i < count; i++) {
    if (lanes[i].wait != Wait::warp) continue;
    unsigned mask = lanes[i].mask;
    if (!(mask >> i & 1)) {
      current = &lanes[i];
      snprintf(b.error, sizeof b.error, "line %d: lane %u calls with a mask (%08x) without itself", lanes[i].line, i, mask);
      return false;
    }
    bool all = true;
    for (unsigned k = 0; k < 32 && all; k++)
      if (mask >> k & 1) {
        all = k < count ? lanes[k].wait == Wait::warp && lanes[k].mask == mask && lanes[k].line == lanes[i].line
                        : !lanes[i].whole;
      }
    if (!all) continue;
    woken = true;
    for (unsigned k = 0; k < count; k++)
      if (mask >> k & 1 && lanes[k].wait == Wait::warp) lanes[k].wait = Wait::none;
  }
  return woken;
}

/// Runs the lanes of a warp up to their next call; then wakes those whose call is complete.
SHIM_RAW inline bool step(Block &b, unsigned warp, const unsigned *order) {
  for (unsigned i = 0; i < 32; i++) {
    unsigned thread = warp * 32 + order[i];
    if (thread >= b.count || b.fibres[thread].wait != Wait::none) continue;
    go(&b.fibres[thread]);
    if (b.error[0]) return false;
  }
  return wake(b, warp);
}

/// When no warp goes on: wakes the threads whose barrier's phase is over, or one of those that wait, to end a copy.
SHIM_RAW inline bool wakeAtBarriers(Block &b) {
  bool woken = false;
  Fibre *waiting = nullptr;
  for (unsigned t = 0; t < b.count; t++) {
    Fibre &f = b.fibres[t];
    if (f.wait != Wait::phase) continue;
    if (!waiting) waiting = &f;
    if (isOver(f.barrier, f.parity)) f.wait = Wait::none, woken = true;
  }
  if (woken || !waiting || !b.bulk) return woken;
  b.stuck = true;
  waiting->wait = Wait::none;
  return true;
}

/// What keeps a block that can't go on.
SHIM_RAW inline void explain(Block &b) {
  unsigned waiting = 0;
  const Fibre *first = nullptr, *other = nullptr;
  for (unsigned t = 0; t < b.count; t++) {
    const Fibre &f = b.fibres[t];
    if (f.wait == Wait::over) continue;
    if (f.wait == Wait::warp) {
      snprintf(
          b.error, sizeof b.error, "warp %u diverged: lane %u waits at line %d for lanes %08x%s (block %u,%u,%u)",
          t / 32, t % 32, f.line, f.mask, f.whole ? ", and all 32 have to be there" : "", f.place.block.x,
          f.place.block.y, f.place.block.z);
      return;
    }
    if (f.wait == Wait::phase) {
      snprintf(
          b.error, sizeof b.error, "thread %u waits for a phase of a barrier that nothing ends (block %u,%u,%u)", t,
          f.place.block.x, f.place.block.y, f.place.block.z);
      return;
    }
    waiting++;
    if (!first)
      first = &f;
    else if (f.line != first->line)
      other = &f;
  }
  if (other)
    snprintf(
        b.error, sizeof b.error, "__syncthreads diverged: thread %u waits at line %d, thread %u at line %d",
        first->index, first->line, other->index, other->line);
  else
    snprintf(
        b.error, sizeof b.error, "__syncthreads at line %d reached by %u of %u threads; the others have ended",
        first ? first->line : 0, waiting, b.count);
}

SHIM_RAW inline void turns(Block &b, unsigned schedule, uint64_t seed) {
  unsigned warps[32], lanes[32];
  Random random{seed * 7919 + schedule};
  for (unsigned i = 0; i < 32; i++) {
    warps[i] = schedule == 1 ? b.warps - 1 - i : i;
    lanes[i] = schedule == 1 ? 31 - i : i;
  }
  for (;;) {
    // Up to the barrier: each warp in turn as far as it goes, or, shuffled, one call of one warp after another.
    if (schedule > 1) {
      bool moved = true;
      while (moved) {
        moved = false;
        random.shuffle(warps, b.warps);
        for (unsigned w = 0; w < b.warps; w++) {
          if (!(schedule & 1)) random.shuffle(lanes, 32);
          moved |= step(b, warps[w], lanes);
          if (b.error[0]) return;
        }
      }
    } else {
      for (unsigned w = 0; w < b.warps; w++)
        while (step(b, warps[w], lanes)) {
        }
      if (b.error[0]) return;
    }
    unsigned over = 0, atBarrier = 0;
    int line = 0, votes = 0;
    bool same = true;
    for (unsigned t = 0; t < b.count; t++) {
      const Fibre &f = b.fibres[t];
      over += f.wait == Wait::over;
      if (f.wait != Wait::block) continue;
      if (!atBarrier++) line = f.line;
      same &= f.line == line;
      votes += f.predicate;
    }
    if (over == b.count) {
      if (b.bulk) snprintf(b.error, sizeof b.error, "a block ends with copies under way");
      return;
    }
    if (wakeAtBarriers(b)) continue;
    if (atBarrier != b.count || !same) return explain(b);
    for (unsigned t = 0; t < b.count; t++) b.fibres[t].wait = Wait::none, b.fibres[t].votes = votes;
  }
}

/// Memory kept by a system thread from block to block; under TSan each block gets fresh pages.
struct Workplace {
  std::vector<Fibre> fibres;
  std::vector<unsigned char> slots;
  Pages stacks, shared;
  Workplace(size_t threads, size_t shared)
      : fibres(threads), slots((threads + 31) / 32 * 64 * shim_stride), stacks(threads * stackBytes),
        shared((shared + 1023) / 1024 * 1024) {}
};

SHIM_RAW inline void runBlock(const Request &request, size_t index, Workplace &place, std::string &error) {
  static thread_local Block b;
  b = Block();
  dim3 grid = request.grid, size = request.size;
  b.size = size, b.count = size.x * size.y * size.z, b.warps = (b.count + 31) / 32;
  b.fibres = place.fibres.data(), b.slots = place.slots.data();
  b.body = request.body, b.context = request.context;
  memset(b.slots, 0xff, place.slots.size());
  if (request.static_bytes) memset(request.statics, 0xff, request.static_bytes);
  size_t rounded = (request.shared + 1023) / 1024 * 1024;
  if (request.shared) {
    b.shared = place.shared.start + place.shared.bytes - rounded;
    memset(b.shared, 0xff, rounded);
  }
  uint3 at = {
      (unsigned)(index % grid.x), (unsigned)(index / grid.x % grid.y), (unsigned)(index / grid.x / grid.y)};
  for (unsigned t = 0; t < b.count; t++) {
    Fibre &f = b.fibres[t];
    f = Fibre();
    f.place = {{t % size.x, t / size.x % size.y, t / size.x / size.y}, at, size, grid};
    f.index = t;
    void **sp = (void **)(place.stacks.start + stackBytes * (t + 1));
    *--sp = nullptr, *--sp = (void *)&enter;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    f.sp = sp;
#ifdef SHIM_RACES
    f.tsan = __tsan_create_fiber(0);
#endif
  }
  block = &b, current = &b.host;
#ifdef SHIM_RACES
  b.host.tsan = __tsan_get_current_fiber();
#endif
  __tsan_release(&b.start);
  turns(b, request.schedule, index);
  __tsan_acquire(&b.end);
  block = nullptr, current = nullptr;
  while (BulkCopy *copy = b.bulk) b.bulk = copy->next, free(copy);
  for (unsigned t = 0; t < b.count; t++) {
    delete b.fibres[t].copies;
#ifdef SHIM_RACES
    __tsan_destroy_fiber(b.fibres[t].tsan);
#endif
  }
  if (b.error[0]) error = b.error;
  for (size_t i = request.shared; i < rounded; i++)
    if (error.empty() && ((unsigned char *)b.shared)[i] != 0xff) error = "writes past the dynamic shared memory";
}

#ifdef SHIM_RACES
/// All threads are started before the first block runs, and sleep until it is their turn on words that TSan doesn't see,
/// so nothing orders one block after another.
SHIM_RAW inline void waitForTurn(unsigned *turn) {
  while (!__atomic_load_n(turn, __ATOMIC_ACQUIRE)) syscall(SYS_futex, turn, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
}
SHIM_RAW inline void giveTurn(unsigned *turn) {
  __atomic_store_n(turn, 1, __ATOMIC_RELEASE);
  syscall(SYS_futex, turn, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}
#endif

/// Empty, or what went wrong first.
inline std::string run(const Request &request) {
  size_t count = (size_t)request.grid.x * request.grid.y * request.grid.z;
  size_t threads = (size_t)request.size.x * request.size.y * request.size.z;
  if (!count || !threads || threads > 1024 || request.size.z > 64) return "invalid size of a grid or block";
  if (request.grid.y > 65535 || request.grid.z > 65535 || request.grid.x > 0x7fffffff) return "a grid too large";
  if (request.shared > 227 << 10) return "more than 227 KiB of dynamic shared memory";
#ifdef SHIM_RACES
  if (!__real___tsan_memcpy) return "link with --wrap, as emulator.hpp says, or copies of structs go unseen";
  if (count > 400) return "too many blocks for a check of races";
  std::vector<std::thread> blocks;
  std::vector<std::string> errors(count);
  std::vector<unsigned> turns(count + 1);
  for (size_t i = 0; i < count; i++)
    blocks.emplace_back([&request, &errors, threads, i, turn = &turns[i]] {
      waitForTurn(turn);
      {
        Workplace place(threads, request.shared);
        runBlock(request, i, place, errors[i]);
      }
      giveTurn(turn + 1);
    });
  giveTurn(&turns[0]);
  for (auto &thread : blocks) thread.join();
  for (auto &error : errors)
    if (!error.empty()) return error;
  return "";
#else
  catchFaults();
  static thread_local std::unique_ptr<Workplace> place;
  if (!place || place->fibres.size() < threads) place = std::make_unique<Workplace>(threads, 227 << 10);
  std::vector<unsigned> order(count);
  for (size_t i = 0; i < count; i++) order[i] = (unsigned)(request.schedule == 1 ? count - 1 - i : i);
  if (request.schedule > 1) Random{request.schedule}.shuffle(order.data(), (unsigned)count);
  std::string error;
  for (size_t i = 0; i < count && error.empty(); i++) runBlock(request, order[i], *place, error);
  return error;
#endif
}

#ifndef SHIM_LIBRARY
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shim_shared[], __stop_shim_shared[];

/// Runs `body`, which calls a kernel, as every thread of every block.
template <class F> std::string launch(dim3 grid, dim3 size, size_t shared, F body, int schedule = -1) {
  Request request{grid, size, shared, schedule < 0 ? scheduleOfEnvironment() : (unsigned)schedule};
  request.body = [](void *f) { (*(F *)f)(); };
  request.context = &body;
#ifndef SHIM_RACES
  request.statics = __start_shim_shared;
  request.static_bytes = (size_t)(__stop_shim_shared - __start_shim_shared);
#endif
  return run(request);
}
#endif

/// Memory of the device: 0xff (not a number) until written, its end at a closed page.
template <class T> struct Device {
  Pages pages;
  size_t count;
  explicit Device(size_t count) : pages(count * sizeof(T)), count(count) { memset(pages.start, 0xff, pages.bytes); }
  /// Aligned to 16 bytes, so up to 15 bytes past the end go unnoticed.
  T *data() { return (T *)(pages.start + pages.bytes - (count * sizeof(T) + 15) / 16 * 16); }
  T &operator[](size_t i) { return data()[i]; }
  T *begin() { return data(); }
  T *end() { return data() + count; }
};
}  // namespace shim
