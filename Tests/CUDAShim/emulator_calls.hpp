// The calls that kernels make (declared in shim.hpp). A pause gives the thread to the scheduler in emulator_run.hpp.
#pragma once

extern "C" {
__attribute__((weak)) SHIM_RAW const shim_place *shim_here() { return &shim::current->place; }

/// Two objects in turn: with one, a slow thread would acquire a fast thread's next arrival and hide races.
__attribute__((weak)) SHIM_RAW unsigned shim_sync_block(int line, int predicate) {
  shim::Fibre *me = shim::current;
  void *barrier = &shim::block->barriers[me->blocks++ & 1];
  __tsan_release(barrier);
  me->predicate = predicate;
  shim::pause(shim::Wait::block, line, 0, false);
  __tsan_acquire(barrier);
  return (unsigned)me->votes;
}

__attribute__((weak)) SHIM_RAW void shim_sync_warp(unsigned mask, int line) {
  shim::Fibre *me = shim::current;
  void *barrier = &shim::block->warp_barriers[me->index / 32][me->warps++ & 1];
  __tsan_release(barrier);
  shim::pause(shim::Wait::warp, line, mask, false);
  __tsan_acquire(barrier);
}

/// Two sets of places in turn, so that one pause is enough: a lane can write a set again only when all have read it.
__attribute__((weak)) SHIM_RAW const unsigned char *shim_exchange(
    const void *mine, size_t bytes, unsigned mask, int line, bool whole) {
  shim::Fibre *me = shim::current;
  unsigned char *set = shim::block->slots + (me->index / 32 * 2 + (me->exchanges++ & 1)) * 32 * shim_stride;
  unsigned char *place = set + me->index % 32 * shim_stride;
  for (size_t i = 0; i < bytes; i++) place[i] = ((const unsigned char *)mine)[i];
  shim::pause(shim::Wait::warp, line, mask, whole);
  return set;
}

__attribute__((weak)) SHIM_RAW unsigned shim_active() {
  const shim::Block *b = shim::block;
  unsigned first = shim::current->index / 32 * 32, mask = 0;
  for (unsigned i = 0; i < 32 && first + i < b->count; i++)
    mask |= (unsigned)(b->fibres[first + i].wait != shim::Wait::over) << i;
  return mask;
}

__attribute__((weak)) SHIM_RAW void *shim_shared_memory() {
  if (!shim::block->shared) shim::fail("dynamic shared memory is used, but the launch gives none");
  return shim::block->shared;
}

__attribute__((weak)) void shim_fail(const char *what) { shim::fail(what); }

// A copy is poison from its start until its group is waited for: a missing wait, or a reader not yet done with what
// is overwritten, shows in values, and as a race.
__attribute__((weak)) void shim_copy_async(void *to, const void *from, bool valid) {
  if ((size_t)to % 16 || (valid && (size_t)from % 16)) shim::fail("copy_async: an address is not a multiple of 16");
  shim::Fibre *me = shim::current;
  memset(to, 0xff, 16);
  if (!me->copies) me->copies = new std::vector<shim::Copy>;
  me->copies->push_back({to, from, valid, me->group});
}
__attribute__((weak)) void shim_copy_commit() { shim::current->group++; }
__attribute__((weak)) void shim_copy_wait(int pending) {
  shim::Fibre *me = shim::current;
  if (!me->copies) return;
  size_t done = 0;
  for (const shim::Copy &copy : *me->copies) {
    if ((int)(me->group - copy.group) <= pending) break;
    if (copy.valid)
      memcpy(copy.to, copy.from, 16);
    else
      memset(copy.to, 0, 16);
    done++;
  }
  me->copies->erase(me->copies->begin(), me->copies->begin() + (long)done);
}
}
