// What Hopper's kernels of attention share, after `attention-tiles.cuh`: a thread has the engine copy tiles of two matrices,
// in turns, into SLOTS places ahead of the GROUPS groups of four warps that read them.
static_assert(GROUPS == 2, "two take turns");

/// Barriers, in shared memory.
struct Slots {
  /// That the block's own tiles are there; of each slot, that it is full, and that it may be filled again.
  u64 *own_there, *full, *empty;
  /// Of `await_turn`.
  u64 *turns;
  /// The entry of the list that a slot's tile is of: read from global memory it would keep a group waiting.
  int *entries;
};
DEVICE Slots make_slots(void *memory) {
  u64 *const own_there = (u64 *)memory, *const full = own_there + 1, *const empty = full + SLOTS;
  u64 *const turns = empty + SLOTS;
  if (threadIdx.x == 0) {
    barrier_init(own_there, 1);
    for (int i = 0; i < SLOTS; i++) barrier_init(full + i, 1), barrier_init(empty + i, 4 * GROUPS);
    barrier_init(turns, 4), barrier_init(turns + 1, 4);
    barriers_seen();
  }
  __syncthreads();
  return {own_there, full, empty, turns, (int *)(turns + 2)};
}

/// One thread's work: for each of the list's `count` entries, of which the caller has read the first, a tile of `b` and one
/// of `b2`. `more(slot, first)` begins copies of `more_bytes` besides, for the rows from `first` on.
template <int more_bytes, class More>
DEVICE void fill_slots(const Slots &slots, u8 *stages, const TensorMap *b, const TensorMap *b2, const int *list,
                       int first_entry, int count, More more) {
  constexpr int size = tile_bytes<64, D>;
  int next = first_entry;
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    const int entry = next, first = (entry >> 2 * GROUPS) * 64;
    if (step + 1 < count) next = list[2 + step];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int slot = (2 * step + i) % SLOTS;
      barrier_wait(slots.empty + slot, ((2 * step + i) / SLOTS + 1) & 1);
      if (i == 0) slots.entries[slot / 2] = entry;
      barrier_expect(slots.full + slot, size + (i == 0 ? more_bytes : 0));
      bulk_tile<D>(stages + slot * size, i ? b2 : b, first, blockIdx.x, blockIdx.z, slots.full + slot);
      if (i == 0) more(slot, first);
    }
  }
}
/// Until tile `i` of all is there.
DEVICE void wait_full(const Slots &slots, int i) { barrier_wait(slots.full + i % SLOTS, i / SLOTS & 1); }
