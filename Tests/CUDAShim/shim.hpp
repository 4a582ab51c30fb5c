// What the kernels take from CUDA, for the CPU: included before prelude.cuh under FLOW_SHIM. A kernel compiled alone
// (SHIM_MODULE) leaves the `shim_` functions to the library that loads it; a test program gets them from emulator.hpp.
//
//   #include "shim.hpp", prelude.cuh, NAME.cu, then:
//   shim::Device<float> y(count);                          // NaN until written; the page behind it is closed
//   std::string error = shim::launch({blocks}, {256}, sharedBytes, [&] { name(x.data(), y.data(), count); });
//
//   clang++ -std=c++17 -O1 -g -pthread -DFLOW_SHIM -fsanitize=alignment,array-bounds -fsanitize-trap=all test.cpp
//   clang++ -std=c++17 -O1 -g -pthread -DFLOW_SHIM -fsanitize=thread test.cpp -L$SWIFT/usr/lib/swift/linux
//     -Wl,-rpath,$SWIFT/usr/lib/swift/linux -ldispatch -lBlocksRuntime         # needed by the sanitizer of Swift's clang
//     -Wl,--wrap=__tsan_memcpy,--wrap=__tsan_memmove,--wrap=__tsan_memset      # see emulator.hpp
//
// Caught: barriers not reached by all threads, warp calls not made by all the lanes named, reads of shared memory never
// written (not a number), copies not waited for, addresses past an allocation, misaligned accesses; and with
// -fsanitize=thread every access that no barrier orders. FLOW_SHIM_SCHEDULE: ascending, descending, or a seed.
#pragma once
#ifdef SHIM_MODULE
// The C library's own math.h: a tenth of the text that libstdc++'s brings.
#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS
#endif
#include <math.h>
#include <stddef.h>
#include <string.h>

#ifdef SHIM_MODULE
// Marks, by which libraries/nvrtc.cpp finds the kernels.
#define __global__ __attribute__((shim_kernel))
#define __launch_bounds__(threads, ...) __attribute__((shim_bound(threads)))
#else
#define __global__
#define __launch_bounds__(...)
#endif
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHIM_RACES 1
#endif
#endif
#ifdef SHIM_RACES
// Each block is a thread of its own, so that blocks aren't ordered among themselves.
#define __shared__ static thread_local
#else
// One block of a module at a time; the section's bounds tell what to poison before each.
#define __shared__ static __attribute__((section("shim_shared")))
#endif

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

/// Where a thread is; constant for the thread.
struct shim_place {
  uint3 thread, block;
  dim3 block_size, grid_size;
};

// The calls that the scheduler of fibres serves.
#pragma GCC visibility push(default)
extern "C" {
const shim_place *shim_here() __attribute__((const));
/// All threads of the block; the number of them whose `predicate` isn't 0.
unsigned shim_sync_block(int line, int predicate);
/// The lanes in `mask`, after which each sees what the others wrote before.
void shim_sync_warp(unsigned mask, int line);
/// Gives up to 32 bytes to the lanes in `mask` and returns lane 0's of 32 such places: 0xff where a lane has ended.
/// As on the device it orders no memory.
const unsigned char *shim_exchange(const void *mine, size_t bytes, unsigned mask, int line, bool whole);
unsigned shim_active();
void *shim_shared_memory();
[[noreturn]] void shim_fail(const char *what);
void shim_copy_async(void *to, const void *from, bool valid);
void shim_copy_commit();
void shim_copy_wait(int pending);
void shim_barrier_init(void *barrier, unsigned arrivals);
/// An arrival, before which so many more bytes are expected.
void shim_barrier_arrive(void *barrier, unsigned bytes);
void shim_barrier_wait(void *barrier, unsigned parity);
/// 64 x 64 elements of two bytes from `at` (column, token, head, batch) on, swizzled by 128 bytes.
void shim_bulk_tensor(void *to, const void *map, const int *at, void *barrier);
void shim_bulk_copy(void *to, const void *from, unsigned bytes, void *barrier);
}
#pragma GCC visibility pop
constexpr size_t shim_stride = 32;

/// What the stand-in for `cuTensorMapEncodeTiled` writes.
struct shim_map {
  unsigned long long mark, address, sizes[4], strides[4];
  static constexpr unsigned long long right = 0x70616d2d6d696873;
};

#define threadIdx (shim_here()->thread)
#define blockIdx (shim_here()->block)
#define blockDim (shim_here()->block_size)
#define gridDim (shim_here()->grid_size)
#define warpSize 32
#define SHARED_MEMORY(name) u8 *const name = (u8 *)shim_shared_memory()

#define __syncthreads() ((void)shim_sync_block(__LINE__, 0))
#define __syncthreads_count(p) ((int)shim_sync_block(__LINE__, (p) != 0))
#define __syncthreads_or(p) ((int)(shim_sync_block(__LINE__, (p) != 0) != 0))
#define __syncthreads_and(p) ((int)(shim_sync_block(__LINE__, (p) == 0) == 0))
#define __syncwarp(...) shim_sync_warp(0xffffffffu __VA_OPT__(&(__VA_ARGS__)), __LINE__)
#define __activemask() shim_active()
// Never weaker than x86's order here; TSan sees the barriers, not the fences.
#define __threadfence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define __threadfence_block() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define __trap() shim_fail("__trap()")

inline void shim_aligned(const void *p, size_t bytes) {
  if ((size_t)p % bytes) shim_fail("a misaligned address");
}

// MARK: Warps

inline unsigned shim_lane() {
  const shim_place *at = shim_here();
  return (at->thread.x + at->block_size.x * (at->thread.y + at->block_size.y * at->thread.z)) & 31;
}
template <class T> T shim_shuffle(unsigned mask, T value, unsigned from, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle takes 4 or 8 bytes");
  const unsigned char *all = shim_exchange(&value, sizeof value, mask, line, false);
  T other;
  __builtin_memcpy(&other, all + (from & 31) * shim_stride, sizeof other);
  return other;
}
/// The lane to read from, or the own one when it lies outside the segment of `width`.
inline unsigned shim_up(unsigned by, unsigned width = 32) {
  unsigned lane = shim_lane(), within = lane % width;
  return within < by ? lane : lane - by;
}
inline unsigned shim_down(unsigned by, unsigned width = 32) {
  unsigned lane = shim_lane(), within = lane % width;
  return within + by >= width ? lane : lane + by;
}
inline unsigned shim_xor(unsigned by, unsigned width = 32) {
  unsigned lane = shim_lane(), to = lane ^ by;
  return to / width > lane / width ? lane : to;
}
inline unsigned shim_index(unsigned of, unsigned width = 32) { return shim_lane() / width * width + of % width; }
#define __shfl_sync(m, v, of, ...) shim_shuffle((m), (v), shim_index((of)__VA_OPT__(, ) __VA_ARGS__), __LINE__)
#define __shfl_up_sync(m, v, by, ...) shim_shuffle((m), (v), shim_up((by)__VA_OPT__(, ) __VA_ARGS__), __LINE__)
#define __shfl_down_sync(m, v, by, ...) shim_shuffle((m), (v), shim_down((by)__VA_OPT__(, ) __VA_ARGS__), __LINE__)
#define __shfl_xor_sync(m, v, by, ...) shim_shuffle((m), (v), shim_xor((by)__VA_OPT__(, ) __VA_ARGS__), __LINE__)

inline unsigned shim_ballot(unsigned mask, bool predicate, int line) {
  unsigned char mine = predicate;
  const unsigned char *all = shim_exchange(&mine, 1, mask, line, false);
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; i++) votes |= (unsigned)(all[i * shim_stride] == 1) << i;
  return votes & mask;
}
#define __ballot_sync(m, p) shim_ballot((m), (p) != 0, __LINE__)
#define __any_sync(m, p) ((int)(shim_ballot((m), (p) != 0, __LINE__) != 0))
#define __all_sync(m, p) ((int)(shim_ballot((m), (p) == 0, __LINE__) == 0))

// MARK: Tensor cores and copies (PTX ISA 9.0, section 9.7.14.5: the layouts of m16n8k16 and ldmatrix)

inline float shim_bf16(unsigned bits) {
  unsigned wide = bits << 16;
  float x;
  __builtin_memcpy(&x, &wide, 4);
  return x;
}
/// d [16, 8] += a [16, 16] b [16, 8]. Lane 4 r + c holds of a the rows r and r + 8 at columns 2 c, 2 c + 1 and 8 more,
/// of b column r at those rows, of d the rows r and r + 8 at columns 2 c, 2 c + 1.
inline void shim_mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const unsigned char *all = shim_exchange(mine, sizeof mine, 0xffffffffu, -16, true);
  unsigned row = shim_lane() / 4, column = shim_lane() % 4 * 2;
  for (unsigned i = 0; i < 4; i++) {
    double sum = 0;
    for (unsigned k = 0; k < 16; k++) {
      unsigned pair = k % 8 / 2, upper = k / 8, word, other;
      __builtin_memcpy(&word, all + (row * 4 + pair) * shim_stride + 4 * (i / 2 + 2 * upper), 4);
      __builtin_memcpy(&other, all + ((column + i % 2) * 4 + pair) * shim_stride + 4 * (4 + upper), 4);
      sum += (double)shim_bf16(k % 2 ? word >> 16 : word & 0xffff) * shim_bf16(k % 2 ? other >> 16 : other & 0xffff);
    }
    d[i] = (float)(sum + d[i]);
  }
}
/// Lane i gives the address of row i % 8 of matrix i / 8 and gets of each matrix two neighbours of row i / 4 (or, if
/// `transposed`, of column i / 4).
inline void shim_ldmatrix(unsigned *r, int matrices, bool transposed, const void *row) {
  if ((size_t)row % 16) shim_fail("ldmatrix: a row's address is not a multiple of 16");
  const unsigned char *all = shim_exchange(&row, sizeof row, 0xffffffffu, transposed ? -18 : -17, true);
  unsigned lane = shim_lane();
  for (int m = 0; m < matrices; m++) {
    unsigned pair[2];
    for (unsigned e = 0; e < 2; e++) {
      unsigned at = transposed ? lane % 4 * 2 + e : lane / 4, element = transposed ? lane / 4 : lane % 4 * 2 + e;
      const unsigned short *from;
      __builtin_memcpy(&from, all + (m * 8 + at) * shim_stride, sizeof from);
      pair[e] = from[element];
    }
    r[m] = pair[0] | pair[1] << 16;
  }
}

#include "shim_wgmma.hpp"

#include "shim_math.hpp"
#ifndef SHIM_MODULE
#include "emulator.hpp"
#endif
