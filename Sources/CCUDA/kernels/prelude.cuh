// What every kernel's source begins with. No header of CUDA's is included, so that only NVRTC is needed where kernels
// are compiled; under FLOW_SHIM the same source is compiled for the CPU, where `shim.hpp` stands for the device.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

/// The upper half of a float32.
struct bf16 {
  u16 bits;
};

#ifdef FLOW_SHIM
#define DEVICE static inline
#define ALIGNED(p, bytes) shim_aligned(p, bytes)
#else
/// Checked on the CPU only; the device faults.
#define ALIGNED(p, bytes)
#define DEVICE static __device__ __forceinline__
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
/// Shared memory whose size is given at the launch.
#define SHARED_MEMORY(name) extern __shared__ __align__(1024) u8 name[]
#endif
/// Of so many threads, and of how many blocks at least a multiprocessor holds at once.
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)

// MARK: Numbers

#ifdef FLOW_SHIM
DEVICE u16 round_bf16(float x) {
  u32 bits = __float_as_uint(x);
  if (x != x) return (u16)(bits >> 16 | 0x40);
  return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
/// Two bfloat16, `low` in the lower half.
DEVICE u32 pack_bf16(float low, float high) { return round_bf16(low) | (u32)round_bf16(high) << 16; }
#else
DEVICE u32 pack_bf16(float low, float high) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
DEVICE u16 round_bf16(float x) { return (u16)(pack_bf16(x, 0.0f)); }
#endif
DEVICE float low_bf16(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float high_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

/// 2 to the power x, to about 2e-7 of it, and square roots, off by a last digit or so.
#ifdef FLOW_SHIM
DEVICE float fast_exp2(float x) { return exp2f(x); }
DEVICE float fast_sqrt(float x) { return sqrtf(x); }
#else
DEVICE float fast_sqrt(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

DEVICE float load(const float *p) { return *p; }
DEVICE float load(const bf16 *p) { return __uint_as_float((u32)p->bits << 16); }
DEVICE void store(float *p, float x) { *p = x; }
DEVICE void store(bf16 *p, float x) { p->bits = round_bf16(x); }

/// 16 bytes.
struct alignas(16) Quad {
  u32 x, y, z, w;
};
struct alignas(8) Pair {
  u32 x, y;
};

/// Four elements at an address that is a multiple of four elements.
DEVICE void load4(float (&v)[4], const float *p) {
  ALIGNED(p, 16);
  Quad q = *(const Quad *)p;
  v[0] = __uint_as_float(q.x), v[1] = __uint_as_float(q.y), v[2] = __uint_as_float(q.z), v[3] = __uint_as_float(q.w);
}
DEVICE void load4(float (&v)[4], const bf16 *p) {
  ALIGNED(p, 8);
  Pair q = *(const Pair *)p;
  v[0] = low_bf16(q.x), v[1] = high_bf16(q.x), v[2] = low_bf16(q.y), v[3] = high_bf16(q.y);
}
DEVICE void store4(float *p, const float (&v)[4]) {
  Quad q = {__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])};
  ALIGNED(p, 16);
  *(Quad *)p = q;
}
DEVICE void store4(bf16 *p, const float (&v)[4]) {
  Pair q = {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])};
  ALIGNED(p, 8);
  *(Pair *)p = q;
}

/// Eight elements at an address that is a multiple of eight elements of bfloat16, or four of float.
DEVICE void load8(float (&v)[8], const float *p) {
  float low[4], high[4];
  load4(low, p), load4(high, p + 4);
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] = low[i], v[i + 4] = high[i];
}
DEVICE void load8(float (&v)[8], const bf16 *p) {
  ALIGNED(p, 16);
  Quad q = *(const Quad *)p;
  v[0] = low_bf16(q.x), v[1] = high_bf16(q.x), v[2] = low_bf16(q.y), v[3] = high_bf16(q.y);
  v[4] = low_bf16(q.z), v[5] = high_bf16(q.z), v[6] = low_bf16(q.w), v[7] = high_bf16(q.w);
}
DEVICE void store8(float *p, const float (&v)[8]) {
  const float low[4] = {v[0], v[1], v[2], v[3]}, high[4] = {v[4], v[5], v[6], v[7]};
  store4(p, low), store4(p + 4, high);
}
DEVICE void store8(bf16 *p, const float (&v)[8]) {
  Quad q = {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
  ALIGNED(p, 16);
  *(Quad *)p = q;
}

/// Two elements at an address that is a multiple of two elements.
DEVICE void store2(float *p, float x, float y) {
  Pair pair = {__float_as_uint(x), __float_as_uint(y)};
  *(Pair *)p = pair;
}
DEVICE void store2(bf16 *p, float x, float y) { *(u32 *)p = pack_bf16(x, y); }

// MARK: Moves, of as many elements as an access holds

template <class T> DEVICE void move(T &to, const T &from) { to = from; }
DEVICE void move(float &to, const bf16 &from) { to = load(&from); }
DEVICE void move(bf16 &to, const float &from) { store(&to, from); }
DEVICE void move(Quad &to, const Pair &from) {
  float v[4];
  load4(v, (const bf16 *)&from);
  store4((float *)&to, v);
}
DEVICE void move(Pair &to, const Quad &from) {
  float v[4];
  load4(v, (const float *)&from);
  store4((bf16 *)&to, v);
}

// MARK: Warps

DEVICE float warp_sum(float x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}
/// Not a number if any is.
DEVICE float larger(float a, float b) { return a > b || a != a ? a : b; }
DEVICE float warp_max(float x) {
  for (int offset = 16; offset > 0; offset /= 2) x = larger(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

/// The sum over the block's threads (a multiple of 32), in all of them. `scratch` holds a float per warp.
DEVICE float block_sum(float x, float *scratch) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (u32 i = 0; i < blockDim.x / 32; i++) sum += scratch[i];
  return sum;
}
DEVICE float block_max(float x, float *scratch) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float top = scratch[0];
  for (u32 i = 1; i < blockDim.x / 32; i++) top = larger(top, scratch[i]);
  return top;
}

// MARK: Tensor cores (PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions")

#ifdef FLOW_SHIM
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { shim_mma_bf16(d, a, b0, b1); }
DEVICE void ldmatrix4(u32 (&r)[4], const void *row) { shim_ldmatrix(r, 4, false, row); }
DEVICE void ldmatrix4_transposed(u32 (&r)[4], const void *row) { shim_ldmatrix(r, 4, true, row); }
/// 16 bytes to shared memory, not waited for; zeros unless `valid`.
DEVICE void copy_async(void *to, const void *from, bool valid) { shim_copy_async(to, from, valid); }
DEVICE void copy_async_near(void *to, const void *from, bool valid) { shim_copy_async(to, from, valid); }
DEVICE void copy_commit() { shim_copy_commit(); }
template <int pending> DEVICE void copy_wait() { shim_copy_wait(pending); }
DEVICE u32 shared_address(const void *p) { return (u32)((const u8 *)p - (const u8 *)shim_shared_memory()); }
#else
DEVICE u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }
/// d [16, 8] += a [16, 16] b [16, 8], m16n8k16.
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
DEVICE void ldmatrix4(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix4_transposed(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void copy_async(void *to, const void *from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
/// Likewise, through the multiprocessor's own cache, as what is soon copied again wants.
DEVICE void copy_async_near(void *to, const void *from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }
#endif

// MARK: Tiles of bfloat16 in shared memory, for the tensor cores
//
// A tile's columns stand in panels of 64: rows of 128 bytes, one below the other, whose 16-byte pieces are swizzled
// (XOR with the row) so that eight rows' same piece lies in eight different groups of banks. It is the 128-byte swizzle
// that `wgmma` and the copy engine read and write.

/// Where the 16 bytes from `column` (a multiple of 8) on of row `row` lie.
template <int rows> DEVICE u8 *tile_piece(u8 *tile, int row, int column) {
  return tile + (column / 64 * rows + row) * 128 + ((column / 8 ^ row) & 7) * 16;
}
template <int rows, int columns> constexpr int tile_bytes = (columns + 63) / 64 * rows * 128;

/// Begins to copy rows of `width` elements, `stride` apart, by all `threads` of the block; zeros after them and after
/// `valid` rows.
template <int rows, int columns, int threads, int width = columns>
DEVICE void tile_load(u8 *tile, const bf16 *from, int stride, int valid) {
  constexpr u32 pieces = rows * (columns / 8);
#pragma unroll(width == columns ? 4 : 1)
  for (u32 piece = threadIdx.x; piece < pieces; piece += threads) {
    u32 row = piece / (columns / 8), column = piece % (columns / 8) * 8;
    const bool is_there = (int)row < valid && (width == columns || column < width);
    copy_async(tile_piece<rows>(tile, row, column), from + (row * stride + column), is_there);
  }
}
/// The 16 x 16 elements from (row, column) on as operand `a` of `mma_bf16`.
template <int rows> DEVICE void tile_a(u32 (&a)[4], u8 *tile, int row, int column) {
  int lane = threadIdx.x % 32;
  ldmatrix4(a, tile_piece<rows>(tile, row + lane % 16, column + lane / 16 * 8));
}
/// The same, transposed, as operand `b` of two products: (b[0], b[1]) has the first eight rows, (b[2], b[3]) the rest.
template <int rows> DEVICE void tile_b(u32 (&b)[4], u8 *tile, int row, int column) {
  int lane = threadIdx.x % 32;
  ldmatrix4(b, tile_piece<rows>(tile, row + lane % 8 + lane / 16 * 8, column + lane / 8 % 2 * 8));
}
/// As it stands, as operand `b` of two products: (b[0], b[1]) has the first eight columns, (b[2], b[3]) the rest.
template <int rows> DEVICE void tile_b_as_is(u32 (&b)[4], u8 *tile, int row, int column) {
  int lane = threadIdx.x % 32;
  ldmatrix4_transposed(b, tile_piece<rows>(tile, row + lane % 16, column + lane / 16 * 8));
}

// MARK: Products of tiles, 16 rows a warp
//
// d = a b or d += a b by the tensor cores; a warp has 16 rows of d and a, in the layout of `mma_bf16`. With FLOW_SM90A
// four warps (from a multiple of four on) do it together by `wgmma`, which reads b in shared memory itself (PTX ISA,
// "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions"): nothing may touch d or a until
// `multiply_wait`.

/// Accumulators of two neighbouring tiles of columns as operand `a` of a product over those columns.
template <int k, int n> DEVICE void pack_tiles(u32 (&a)[k][4], const float (&d)[n][4]) {
  static_assert(n == 2 * k, "16 columns each");
#pragma unroll
  for (int i = 0; i < k; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) a[i][e] = pack_bf16(d[2 * i + e / 2][e % 2 * 2], d[2 * i + e / 2][e % 2 * 2 + 1]);
}

#ifndef FLOW_SM90A
/// d = a b, b being the transpose of n rows of a tile, from `row` on.
template <int rows, int n, int k> DEVICE void multiply(float (&d)[n][4], const u32 (&a)[k][4], u8 *tile, int row) {
#pragma unroll
  for (int i = 0; i < 4 * n; i++) d[i / 4][i % 4] = 0;
#pragma unroll
  for (int i = 0; i < k; i++)
#pragma unroll
    for (int j = 0; j < n / 2; j++) {
      u32 b[4];
      tile_b<rows>(b, tile, row + j * 16, i * 16);
      mma_bf16(d[2 * j], a[i], b[0], b[1]);
      mma_bf16(d[2 * j + 1], a[i], b[2], b[3]);
    }
}
/// The same, a being k pieces of 16 columns of a tile, each warp its 16 rows.
template <int rows, int k, int n> DEVICE void multiply_tiles(float (&d)[n][4], u8 *tile_of_a, u8 *tile, int row) {
#pragma unroll
  for (int i = 0; i < 4 * n; i++) d[i / 4][i % 4] = 0;
#pragma unroll
  for (int i = 0; i < k; i++) {
    u32 a[4];
    tile_a<rows>(a, tile_of_a, threadIdx.x / 32 % 4 * 16, i * 16);
#pragma unroll
    for (int j = 0; j < n / 2; j++) {
      u32 b[4];
      tile_b<rows>(b, tile, row + j * 16, i * 16);
      mma_bf16(d[2 * j], a, b[0], b[1]);
      mma_bf16(d[2 * j + 1], a, b[2], b[3]);
    }
  }
}
/// d += a b, b being rows of a tile as they stand, from `row` on.
template <int rows, int n, int k>
DEVICE void multiply_as_is(float (&d)[n][4], const u32 (&a)[k][4], u8 *tile, int row) {
#pragma unroll
  for (int i = 0; i < k; i++)
#pragma unroll
    for (int j = 0; j < n / 2; j++) {
      u32 b[4];
      tile_b_as_is<rows>(b, tile, row + i * 16, j * 16);
      mma_bf16(d[2 * j], a[i], b[0], b[1]);
      mma_bf16(d[2 * j + 1], a[i], b[2], b[3]);
    }
}
/// Waits for the product into d; `pending` were begun after it and may go on.
template <int pending, int n> DEVICE void multiply_wait(float (&)[n][4]) {}
/// All copies begun, of all threads.
#define tiles_wait() (copy_wait<0>(), __syncthreads())
#endif
