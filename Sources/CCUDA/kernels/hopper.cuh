// What follows the prelude under FLOW_SM90A: Hopper's own products of tiles, and its copy engine (PTX ISA 9.0, sections
// 9.7.15 and 9.7.9.27).

/// A matrix in shared memory for `wgmma`: in swizzled panels of `rows` rows, from `row` (a multiple of 8) and `column`
/// (a multiple of 16) on.
template <int rows> DEVICE u64 tile_matrix(u8 *tile, int row, int column) {
  u32 address = shared_address(tile) + (column / 64 * rows + row) * 128 + column % 64 * 2;
  // From one panel to the next (read only across columns), from 8 rows to the next 8; the swizzle of 128 bytes.
  return (u64)(address / 16) | (u64)(rows * 128 / 16) << 16 | (u64)(1024 / 16) << 32 | (u64)1 << 62;
}
#ifdef FLOW_SHIM
template <bool fresh, int n> DEVICE void wgmma(float (&d)[n][4], const u32 (&a)[4], u64 b) {
  shim_wgmma(&d[0][0], n * 8, fresh, a, 0, b, false);
}
template <int n> DEVICE void wgmma_as_is(float (&d)[n][4], const u32 (&a)[4], u64 b) {
  shim_wgmma(&d[0][0], n * 8, false, a, 0, b, true);
}
template <bool fresh, int n> DEVICE void wgmma_tiles(float (&d)[n][4], u64 a, u64 b) {
  shim_wgmma(&d[0][0], n * 8, fresh, 0, a, b, false);
}
DEVICE void wgmma_begin() {}
DEVICE void wgmma_commit() {}
template <int pending> DEVICE void wgmma_wait() {}
DEVICE void wgmma_see_shared() {}
template <class T, int n> DEVICE void wgmma_pin(T (&)[n][4]) {}
#else
#define FOUR(access, d, i) access(d[i][0]), access(d[i][1]), access(d[i][2]), access(d[i][3])
#define EIGHT_BY_FOUR(access, d, i) \
  FOUR(access, d, i), FOUR(access, d, i + 1), FOUR(access, d, i + 2), FOUR(access, d, i + 3), FOUR(access, d, i + 4), \
      FOUR(access, d, i + 5), FOUR(access, d, i + 6), FOUR(access, d, i + 7)
#define REGISTERS_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_64(access, tail, ...)                                                           \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" REGISTERS_32 "}, " tail \
               : EIGHT_BY_FOUR(access, d, 0)                                                   \
               : __VA_ARGS__)

/// d [64, 64] = (`fresh`) or += a [64, 16] bT, b given as rows of k.
template <bool fresh> DEVICE void wgmma(float (&d)[8][4], const u32 (&a)[4], u64 b) {
  if constexpr (fresh)
    WGMMA_64("=f", "{%32, %33, %34, %35}, %36, 0, 1, 1, 0;", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  else
    WGMMA_64("+f", "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
/// The same, a in shared memory too.
template <bool fresh> DEVICE void wgmma_tiles(float (&d)[8][4], u64 a, u64 b) {
  if constexpr (fresh)
    WGMMA_64("=f", "%32, %33, 0, 1, 1, 0, 0;", "l"(a), "l"(b));
  else
    WGMMA_64("+f", "%32, %33, 1, 1, 1, 0, 0;", "l"(a), "l"(b));
}
/// d [64, 8 n] += a [64, 16] b, b given as its rows.
DEVICE void wgmma_as_is(float (&d)[8][4], const u32 (&a)[4], u64 b) {
  WGMMA_64("+f", "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
DEVICE void wgmma_as_is(float (&d)[16][4], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, "
      "%13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, "
      "%35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, "
      "%57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : EIGHT_BY_FOUR("+f", d, 0), EIGHT_BY_FOUR("+f", d, 8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending> DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
/// What this thread has written to shared memory, `wgmma` after the next barrier sees.
DEVICE void wgmma_see_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/// No use of d's registers is moved across this.
template <int n> DEVICE void wgmma_pin(float (&d)[n][4]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : FOUR("+f", d, i)::"memory");
}
#endif

template <int rows, int n, int k> DEVICE void multiply(float (&d)[n][4], const u32 (&a)[k][4], u8 *tile, int row) {
  wgmma_begin();
  wgmma<true>(d, a[0], tile_matrix<rows>(tile, row, 0));
#pragma unroll
  for (int i = 1; i < k; i++) wgmma<false>(d, a[i], tile_matrix<rows>(tile, row, i * 16));
  wgmma_commit();
}
template <int rows, int k, int n> DEVICE void multiply_tiles(float (&d)[n][4], u8 *tile_of_a, u8 *tile, int row) {
  wgmma_begin();
  wgmma_tiles<true>(d, tile_matrix<rows>(tile_of_a, 0, 0), tile_matrix<rows>(tile, row, 0));
#pragma unroll
  for (int i = 1; i < k; i++)
    wgmma_tiles<false>(d, tile_matrix<rows>(tile_of_a, 0, i * 16), tile_matrix<rows>(tile, row, i * 16));
  wgmma_commit();
}
template <int rows, int n, int k>
DEVICE void multiply_as_is(float (&d)[n][4], const u32 (&a)[k][4], u8 *tile, int row) {
  wgmma_pin(d);
  wgmma_begin();
#pragma unroll
  for (int i = 0; i < k; i++) wgmma_as_is(d, a[i], tile_matrix<rows>(tile, row + i * 16, 0));
  wgmma_commit();
}
template <int pending, int n> DEVICE void multiply_wait(float (&d)[n][4]) {
  wgmma_wait<pending>();
  wgmma_pin(d);
}

// MARK: Copies that an engine makes by itself
//
// A thread asks the engine for a tile and goes on. What waits for the tile waits at a barrier in shared memory: a phase of
// it is over when all arrivals and all bytes that were announced are there, and the next phase begins.

/// What the engine knows of a matrix in memory (the driver's `CUtensorMap`), a kernel's parameter.
#ifdef FLOW_SHIM
struct TensorMap {
#else
struct alignas(64) TensorMap {
#endif
  u64 words[16];
};
#define TENSOR_MAP(name) const __grid_constant__ TensorMap name

#ifdef FLOW_SHIM
DEVICE void barrier_init(u64 *barrier, u32 arrivals) { shim_barrier_init(barrier, arrivals); }
DEVICE void barriers_seen() {}
DEVICE void barrier_arrive(u64 *barrier) { shim_barrier_arrive(barrier, 0); }
DEVICE void barrier_expect(u64 *barrier, u32 bytes) { shim_barrier_arrive(barrier, bytes); }
DEVICE void barrier_wait(u64 *barrier, u32 parity) { shim_barrier_wait(barrier, parity); }
DEVICE void bulk_panel(u8 *to, const TensorMap *map, int column, int token, int head, int batch, u64 *barrier) {
  const int at[4] = {column, token, head, batch};
  shim_bulk_tensor(to, map, at, barrier);
}
DEVICE void bulk_copy(void *to, const void *from, u32 bytes, u64 *barrier) { shim_bulk_copy(to, from, bytes, barrier); }
template <int count> DEVICE void registers_less() {}
template <int count> DEVICE void registers_more() {}
#else
/// A phase takes so many arrivals.
DEVICE void barrier_init(u64 *barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// After the next `__syncthreads`, barriers set up by this thread are there for all threads and for the engine.
DEVICE void barriers_seen() {
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
}
DEVICE void barrier_arrive(u64 *barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(shared_address(barrier))
               : "memory");
}
/// An arrival, and so many bytes of copies more for the phase.
DEVICE void barrier_expect(u64 *barrier, u32 bytes) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(
                   shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
/// Until the phase of this parity (0 the first) is over.
DEVICE void barrier_wait(u64 *barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred over;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n@over bra DONE;\n"
      "bra AGAIN;\nDONE:\n}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}
/// 64 tokens of 64 columns, swizzled by 128 bytes; zeros past the matrix.
DEVICE void bulk_panel(u8 *to, const TensorMap *map, int column, int token, int head, int batch, u64 *barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(shared_address(to)),
      "l"(map), "r"(column), "r"(token), "r"(head), "r"(batch), "r"(shared_address(barrier))
      : "memory");
}
/// A multiple of 16 bytes, between multiples of 16.
DEVICE void bulk_copy(void *to, const void *from, u32 bytes, u64 *barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}
/// The group of four warps keeps so many registers a thread, or takes so many from those that others gave up.
template <int count> DEVICE void registers_less() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count)); }
template <int count> DEVICE void registers_more() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count)); }
#endif

/// A tile of 64 tokens, in panels as `tile_piece` has them.
template <int columns>
DEVICE void bulk_tile(u8 *to, const TensorMap *map, int token, int head, int batch, u64 *barrier) {
#pragma unroll
  for (int i = 0; i < columns / 64; i++) bulk_panel(to + i * 8192, map, i * 64, token, head, batch, barrier);
}

/// Which group of four warps this is, in a way that shows the compiler that a warp has one: what it addresses by it then
/// takes no instruction a thread.
DEVICE int warp_group() { return __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0); }

/// Two groups of four warps take turns to begin products: without, both have the tensor cores at once, and then neither
/// while both take exponentials. `turns` are two barriers of four arrivals.
DEVICE void await_turn(u64 *turns, int group, int step) { barrier_wait(turns + group, (step + 1 - group) & 1); }
DEVICE void pass_turn(u64 *turns, int group) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(turns + 1 - group);
}
