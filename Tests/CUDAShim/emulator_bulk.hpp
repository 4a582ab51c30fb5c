// Hopper's barriers in shared memory and the copies that its engine makes (PTX ISA 9.0, sections 9.7.13.15 and 9.7.9.25).
// A copy reads and writes as late as it can: when no thread goes on without it.
#pragma once

namespace shim {
/// What stands in the 8 bytes of a barrier; `count` is 0xffff in memory never written.
struct Barrier {
  uint16_t count;
  int16_t pending;
  int32_t bytes : 31;
  uint32_t phase : 1;
};

SHIM_RAW inline Barrier *barrierAt(void *address) {
  if ((size_t)address % 8) fail("a barrier's address is not a multiple of 8");
  Barrier *barrier = (Barrier *)address;
  if (barrier->count == 0xffff) fail("a barrier that was not set up");
  return barrier;
}
SHIM_RAW inline void *order(Barrier *barrier, unsigned phase) { return (char *)barrier + phase; }
SHIM_RAW inline void proceed(Barrier *barrier) {
  if (barrier->pending < 0) fail("more arrivals at a barrier than it takes");
  if (barrier->bytes < 0) fail("a barrier gets more bytes than it was told to expect");
  if (barrier->pending > 0 || barrier->bytes > 0) return;
  barrier->phase ^= 1;
  barrier->pending = (int16_t)barrier->count;
}
SHIM_RAW inline bool isOver(void *barrier, unsigned parity) { return ((Barrier *)barrier)->phase != parity; }

/// Where the 16 bytes `piece` of row `row` lie.
SHIM_RAW inline char *bulkPiece(const BulkCopy &copy, unsigned row, unsigned piece) {
  const size_t at = (size_t)((char *)copy.to - (char *)block->shared) + row * 128 + piece * 16;
  return (char *)block->shared + (copy.swizzled ? at ^ (at >> 7 & 7) << 4 : at);
}
SHIM_RAW inline void endCopy(const BulkCopy &copy) {
  Barrier *barrier = barrierAt(copy.barrier);
  // Its bytes count for the phase that is under way now.
  void *const phase = order(barrier, barrier->phase);
  __tsan_acquire(phase);
  for (unsigned i = 0; i < copy.bytes; i++)
    bulkPiece(copy, i / 128, i % 128 / 16)[i % 16] =
        i % 128 < copy.widths[i / 128] ? ((const char *)copy.from[i / 128])[i % 128] : 0;
  __tsan_release(phase);
  barrier->bytes -= (int)copy.bytes;
  proceed(barrier);
}
SHIM_RAW inline BulkCopy *newCopy(void *to, void *barrier, unsigned bytes, bool swizzled) {
  if ((size_t)to % (swizzled ? 1024 : 16) || bytes % 16 || bytes > 8192) fail("a bulk copy that is not aligned");
  if (!block->shared || (char *)to < (char *)block->shared) fail("a bulk copy that is not to shared memory");
  BulkCopy *copy = (BulkCopy *)calloc(1, sizeof(BulkCopy));
  copy->to = to, copy->barrier = barrier, copy->bytes = bytes, copy->swizzled = swizzled;
  return copy;
}
SHIM_RAW inline void beginCopy(BulkCopy *copy) {
#ifdef SHIM_RACES
  for (unsigned i = 0; i < 64; i++)
    if (copy->widths[i]) __tsan_read_range((void *)copy->from[i], copy->widths[i]);
  __tsan_write_range(copy->to, copy->bytes);
#endif
  for (unsigned i = 0; i < copy->bytes; i++) ((volatile char *)copy->to)[i] = (char)0xff;
  Barrier *barrier = barrierAt(copy->barrier);
  __tsan_release(order(barrier, barrier->phase));
  BulkCopy **last = &block->bulk;
  while (*last) last = &(*last)->next;
  *last = copy;
}
}  // namespace shim

extern "C" {
__attribute__((weak)) SHIM_RAW void shim_barrier_init(void *barrier, unsigned arrivals) {
  if ((size_t)barrier % 8 || !arrivals || arrivals > 1024) shim::fail("a barrier that can't be set up");
  shim::Barrier *made = (shim::Barrier *)barrier;
  made->count = (uint16_t)arrivals, made->pending = (int16_t)arrivals, made->bytes = 0, made->phase = 0;
}
__attribute__((weak)) SHIM_RAW void shim_barrier_arrive(void *barrier, unsigned bytes) {
  shim::Barrier *at = shim::barrierAt(barrier);
  __tsan_release(shim::order(at, at->phase));
  at->bytes += (int)bytes;
  at->pending--;
  shim::proceed(at);
}
__attribute__((weak)) SHIM_RAW void shim_barrier_wait(void *barrier, unsigned parity) {
  shim::Barrier *at = shim::barrierAt(barrier);
  if (parity > 1) shim::fail("a phase's parity is 0 or 1");
  shim::Block *b = shim::block;
  while (!shim::isOver(at, parity)) {
    if (b->stuck && b->bulk) {
      b->stuck = false;
      shim::BulkCopy *copy = b->bulk;
      b->bulk = copy->next;
      shim::endCopy(*copy);
      free(copy);
      continue;
    }
    shim::current->barrier = barrier, shim::current->parity = parity;
    shim::pause(shim::Wait::phase, 0, 0, false);
  }
  __tsan_acquire(shim::order(at, parity));
}
__attribute__((weak)) SHIM_RAW void shim_bulk_tensor(void *to, const void *words, const int *at, void *barrier) {
  shim_map map;
  __builtin_memcpy(&map, words, sizeof map);
  if (map.mark != shim_map::right) shim::fail("a bulk copy by what is no tensor map");
  shim::BulkCopy *copy = shim::newCopy(to, barrier, 64 * 128, true);
  for (int row = 0; row < 64; row++) {
    const long long place[4] = {at[0], at[1] + row, at[2], at[3]};
    unsigned long long from = map.address + (unsigned long long)(place[0] * 2);
    bool isThere = true;
    for (int i = 0; i < 4; i++) {
      isThere &= place[i] >= 0 && (unsigned long long)place[i] < map.sizes[i];
      if (i > 0) from += (unsigned long long)place[i] * map.strides[i];
    }
    const unsigned long long left = isThere ? (map.sizes[0] - (unsigned long long)place[0]) * 2 : 0;
    copy->from[row] = (const void *)from, copy->widths[row] = (unsigned)(left < 128 ? left : 128);
  }
  shim::beginCopy(copy);
}
__attribute__((weak)) SHIM_RAW void shim_bulk_copy(void *to, const void *from, unsigned bytes, void *barrier) {
  if ((size_t)from % 16) shim::fail("a bulk copy from what is not a multiple of 16 bytes");
  shim::BulkCopy *copy = shim::newCopy(to, barrier, bytes, false);
  for (unsigned i = 0; i < bytes; i += 128)
    copy->from[i / 128] = (const char *)from + i, copy->widths[i / 128] = bytes - i < 128 ? bytes - i : 128;
  shim::beginCopy(copy);
}
}
