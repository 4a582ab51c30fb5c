// The scheduler under shim.hpp: a fibre per CUDA thread. Blocks run one after another; under -fsanitize=thread each on
// a system thread of its own, not ordered with the others, and each fibre is a thread to TSan, so that a missing barrier
// is a reported race whatever the schedule.
#pragma once
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

/// Invisible to TSan: the scheduler's own state is passed between fibres on purpose.
#define SHIM_RAW __attribute__((disable_sanitizer_instrumentation, noinline))
#ifdef SHIM_RACES
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void *);
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_acquire(void *);
void __tsan_release(void *);
void __tsan_read_range(void *, unsigned long);
void __tsan_write_range(void *, unsigned long);
// The sanitizer of Swift 6.3's clang sees nothing of what memcpy and memset touch, so of copies of structs neither:
// -Wl,--wrap=__tsan_memcpy,--wrap=__tsan_memmove,--wrap=__tsan_memset puts these in their place.
__attribute__((weak)) void *__real___tsan_memcpy(void *, const void *, size_t);
SHIM_RAW inline void *__wrap___tsan_memmove(void *to, const void *from, size_t bytes) {
  __tsan_read_range((void *)from, bytes);
  __tsan_write_range(to, bytes);
  return __builtin_memmove(to, from, bytes);
}
__attribute__((used)) SHIM_RAW inline void *__wrap___tsan_memcpy(void *to, const void *from, size_t bytes) {
  return __wrap___tsan_memmove(to, from, bytes);
}
__attribute__((used)) SHIM_RAW inline void *__wrap___tsan_memset(void *to, int value, size_t bytes) {
  __tsan_write_range(to, bytes);
  return __builtin_memset(to, value, bytes);
}
}
#else
inline void __tsan_acquire(void *) {}
inline void __tsan_release(void *) {}
#endif

namespace shim {
constexpr size_t stackBytes = 256 << 10;

enum class Wait : uint8_t { none, block, warp, phase, over };

struct Copy {
  void *to;
  const void *from;
  bool valid;
  unsigned group;
};

/// A copy of the engine's: poison from its start until a thread waits for its barrier and nothing else goes on.
struct BulkCopy {
  void *to;
  void *barrier;
  unsigned bytes;
  bool swizzled;
  // Of each 128 bytes, from where they come, and how many; the rest are zeros.
  const void *from[64];
  unsigned widths[64];
  BulkCopy *next;
};

struct Fibre {
  shim_place place;  // first: `shim_here` returns it
  void *sp;
  void *tsan;
  unsigned index, mask, blocks, warps, exchanges;
  int line, predicate, votes;
  Wait wait;
  bool whole;
  std::vector<Copy> *copies;
  unsigned group;
  void *barrier;  // waited for, at `parity`
  unsigned parity;
};

struct Block {
  dim3 size;
  unsigned count, warps;
  Fibre *fibres;
  unsigned char *slots;  // [warp][parity][lane][shim_stride]
  Fibre host;
  void *shared;
  void (*body)(void *);
  void *context;
  char error[400];
  BulkCopy *bulk;
  bool stuck;  // the next to wait at a barrier ends a copy
  char barriers[2], warp_barriers[32][2], start, end;  // addresses that TSan orders by
};

/// A stack to run `count` fibres on, or the memory for one block's dynamic shared memory: the page behind is closed.
struct Pages {
  char *start = nullptr;
  size_t bytes = 0;
  explicit Pages(size_t wanted, char *place = nullptr) : bytes((wanted + 4095) / 4096 * 4096) {
    start = (char *)mmap(
        place, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) abort();
    mprotect(start + bytes, 4096, PROT_NONE);
  }
  ~Pages() { munmap(start, bytes + 4096); }
  Pages(const Pages &) = delete;
};

inline thread_local Block *block = nullptr;
inline thread_local Fibre *current = nullptr;

#ifndef __x86_64__
#error "the fibres' switch is written for x86-64"
#endif
asm(".text\n.weak shim_switch\n.type shim_switch,@function\nshim_switch:\n"  // rdi: where to keep sp, rsi: the next sp
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\nmovq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nretq\n");
extern "C" void shim_switch(void **keep, void *next);

SHIM_RAW inline void go(Fibre *to) {
  Fibre *from = current;
  current = to;
#ifdef SHIM_RACES
  __tsan_switch_to_fiber(to->tsan, 1 /* orders nothing */);
#endif
  shim_switch(&from->sp, to->sp);
}
SHIM_RAW inline void pause(Wait wait, int line, unsigned mask, bool whole) {
  Fibre *me = current;
  me->wait = wait, me->line = line, me->mask = mask, me->whole = whole;
  go(&block->host);
}
SHIM_RAW inline void enter() {
  Block *b = block;
  __tsan_acquire(&b->start);
  b->body(b->context);
  __tsan_release(&b->end);
  current->wait = Wait::over;
  go(&b->host);
  abort();
}
/// The block ends here with `what`; its fibres are left where they are.
[[noreturn]] SHIM_RAW inline void fail(const char *what) {
  const shim_place &at = current->place;
  snprintf(
      block->error, sizeof block->error, "%s (thread %u,%u,%u of block %u,%u,%u)", what, at.thread.x, at.thread.y,
      at.thread.z, at.block.x, at.block.y, at.block.z);
  go(&block->host);
  abort();
}

/// What a wild address becomes, or a trap of -fsanitize-trap=all: an error of the block that met it.
inline thread_local char faultText[120];
[[noreturn]] inline void landed() { fail(faultText); }
inline struct sigaction olderFault[32];
SHIM_RAW inline void onFault(int signal, siginfo_t *info, void *context) {
  if (!block || !current || current == &block->host) {
    sigaction(signal, &olderFault[signal], nullptr);  // not ours: the instruction runs again and meets the older one
    return;
  }
  if (signal == SIGFPE)
    snprintf(faultText, sizeof faultText, "an integer division by zero");
  else if (signal == SIGILL || info->si_code == SI_KERNEL)
    snprintf(faultText, sizeof faultText, "a misaligned address, or an index outside its array");
  else
    snprintf(faultText, sizeof faultText, "an illegal address, %p", info->si_addr);
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  registers[REG_RSP] = ((registers[REG_RSP] - 256) & ~15ll) - 8;
  registers[REG_RIP] = (greg_t)&landed;
}
inline void catchFaults() {
  static const bool done = [] {
    struct sigaction action = {};
    action.sa_sigaction = onFault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, &olderFault[signal]);
    return true;
  }();
  (void)done;
}
}  // namespace shim

#include "emulator_bulk.hpp"
#include "emulator_calls.hpp"
#include "emulator_run.hpp"
