// Mistakes planted in kernels, that the emulator must catch: `planted N` runs all kernels with mistake N (0: none) on
// several schedules; it fails, and says why, when an error is found or a result is wrong. Under -fsanitize=thread it is
// TSan that fails.
#define FLOW_SM90A
#include "shim.hpp"
#include "../../Sources/CCUDA/kernels/prelude.cuh"
#include "../../Sources/CCUDA/kernels/hopper.cuh"

enum Mistake {
  none,
  noBarrierAfterLoad,
  noBarrierBeforeOverwrite,
  noWarpBarrier,
  noCopyWait,
  pastTheEnd,
  divergentBarrier,
  pastSharedArray,
  misaligned,
  halfWarpShuffle,
  blocksAdd,
  unwrittenShared,
  waitForThePhaseBefore,
  noExpectedBytes,
  fillsWhatIsRead,
  oneArrivalTooFew,
  wrongSwizzle,
  count
};

/// y = x with each tile of 512 turned around.
KERNEL(128) turn(float *y, const float *x, int tiles, int mistake) {
  SHARED_MEMORY(memory);
  float *tile = (float *)memory;
  for (int t = 0; t < tiles; t++) {
    const float *from = x + (blockIdx.x * tiles + t) * 512;
    copy_async(tile + threadIdx.x * 4, from + threadIdx.x * 4, true);
    copy_commit();
    if (mistake != noCopyWait) copy_wait<0>();
    if (mistake != noBarrierAfterLoad) __syncthreads();
    for (int i = threadIdx.x; i < 512; i += 128) y[(blockIdx.x * tiles + t) * 512 + i] = tile[511 - i];
    if (mistake != noBarrierBeforeOverwrite) __syncthreads();
  }
}
/// y = x with the halves of each pair exchanged, and the number of pairs added up.
KERNEL(64) pairs(float *y, const float *x, float *sums, int count, int mistake) {
  __shared__ float part[64];
  int i = blockIdx.x * 64 + threadIdx.x;
  if (mistake != unwrittenShared || i % 64 != 13) part[threadIdx.x] = i < count ? x[i] : 0;
  if (mistake != noWarpBarrier) __syncwarp();
  float other = part[threadIdx.x ^ 1];
  if (i < count || (mistake == pastTheEnd && i == count)) y[i] = other;
  if (mistake == divergentBarrier && threadIdx.x < 40) __syncthreads();
  if (mistake == pastSharedArray) part[threadIdx.x + 1] = 0;
  if (mistake == halfWarpShuffle && threadIdx.x < 16) other = __shfl_xor_sync(0xffffffffu, other, 1);
  float v[4] = {other, other, other, other};
  if (mistake == misaligned) store4(y + 1, v);
  if (threadIdx.x == 0) {
    if (mistake == blocksAdd)
      sums[0] += 1;
    else
      atomicAdd(sums, 1.0f);
  }
}
/// c [16, 8] = a [16, 16] b [16, 8].
KERNEL(32) product(float *c, const bf16 *a, const bf16 *b) {
  __shared__ __align__(16) bf16 left[256];
  __shared__ __align__(16) bf16 right[128];
  for (int i = threadIdx.x; i < 256; i += 32) left[i] = a[i];
  for (int i = threadIdx.x; i < 128; i += 32) right[i] = b[i];
  __syncthreads();
  int lane = threadIdx.x, row = lane / 4, column = lane % 4 * 2;
  u32 x[4], w[4];
  ldmatrix4(x, &left[lane % 16 * 16 + lane / 16 * 8]);
  ldmatrix4_transposed(w, &right[lane % 16 * 8]);
  float d[4] = {0, 0, 0, 0};
  mma_bf16(d, x, w[0], w[1]);
  for (int i = 0; i < 4; i++) c[(row + i / 2 * 8) * 8 + column + i % 2] = d[i];
}
/// y = the `tiles` tiles of 64 tokens of the one head in `map`; thread 128 has the engine copy them into two places in turn.
KERNEL(160) walk(float *y, TENSOR_MAP(map), int tiles, int tokens, int width, int mistake) {
  SHARED_MEMORY(memory);
  u64 *const full = (u64 *)(memory + 2 * 16384), *const empty = full + 2;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; i++) barrier_init(full + i, 1), barrier_init(empty + i, mistake == oneArrivalTooFew ? 5 : 4);
    barriers_seen();
  }
  __syncthreads();
  if (threadIdx.x == 128) {
    for (int i = 0; i < tiles; i++) {
      if (mistake != fillsWhatIsRead) barrier_wait(empty + i % 2, (i / 2 + 1) & 1);
      if (mistake == noExpectedBytes)
        barrier_arrive(full + i % 2);
      else
        barrier_expect(full + i % 2, 16384);
      bulk_tile<128>(memory + i % 2 * 16384, &map, i * 64, 0, 0, full + i % 2);
    }
  } else if (threadIdx.x < 128) {
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < tiles; i++) {
      barrier_wait(full + i % 2, (i / 2 + (mistake == waitForThePhaseBefore)) & 1);
      for (int at = threadIdx.x; at < 64 * width; at += 128) {
        const int row = at / width, column = at % width, other = mistake == wrongSwizzle ? row ^ 1 : row;
        const u8 *piece = tile_piece<64>(memory + i % 2 * 16384, other, column) + (row - other) * 128;
        if (i * 64 + row < tokens) y[(i * 64 + row) * width + column] = load((const bf16 *)piece + column % 8);
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(empty + i % 2);
    }
  }
}

static int check(int mistake, int schedule) {
  const int tiles = 3, blocks = 3, size = tiles * blocks * 512, pairCount = 188;
  shim::Device<float> x(size), y(size), z(pairCount), sums(1);
  for (int i = 0; i < size; i++) x[i] = (float)(i * 37 % 1009);
  sums[0] = 0;
  std::string error = shim::launch({blocks}, {128}, 2048, [&] { turn(y.data(), x.data(), tiles, mistake); }, schedule);
  if (error.empty())
    error = shim::launch({3}, {64}, 0, [&] { pairs(z.data(), x.data(), sums.data(), pairCount, mistake); }, schedule);
  shim::Device<bf16> a(256), b(128);
  shim::Device<float> c(128);
  for (int i = 0; i < 256; i++) a[i].bits = round_bf16((float)(i * 29 % 113) - 50);
  for (int i = 0; i < 128; i++) b[i].bits = round_bf16((float)(i * 31 % 97) * 0.25f);
  if (error.empty()) error = shim::launch({1}, {32}, 0, [&] { product(c.data(), a.data(), b.data()); }, schedule);
  // Columns after the 80th are zeros, as are tokens after the last.
  const int tokens = 300, width = 80;
  shim::Device<bf16> image(tokens * width);
  shim::Device<float> walked(tokens * 128);
  for (int i = 0; i < tokens * width; i++) image[i].bits = round_bf16((float)(i * 43 % 211) - 99);
  shim_map known = {shim_map::right, (u64)image.data(), {width, tokens, 1, 1}, {2, width * 2, 16, 16}};
  TensorMap map = {};
  memcpy(&map, &known, sizeof known);
  if (error.empty())
    error = shim::launch(
        {1}, {160}, 2 * 16384 + 64, [&] { walk(walked.data(), map, 5, tokens, 128, mistake); }, schedule);
  if (!error.empty()) return printf("schedule %d: %s\n", schedule, error.c_str()), 1;
  int wrong = sums[0] != 3;
  for (int i = 0; i < size; i++) wrong += !(y[i] == x[i / 512 * 512 + 511 - i % 512]);
  for (int i = 0; i < pairCount; i++) wrong += !(z[i] == x[i ^ 1]);
  for (int i = 0; i < 128; i++) {
    double sum = 0;
    for (int k = 0; k < 16; k++) sum += (double)load(&a[i / 8 * 16 + k]) * load(&b[k * 8 + i % 8]);
    wrong += !(fabs(sum - c[i]) <= 1e-5 * fabs(sum));
  }
  for (int i = 0; i < tokens * 128; i++) {
    const int row = i / 128, column = i % 128;
    wrong += !(walked[i] == (column < width ? load(&image[row * width + column]) : 0));
  }
  if (wrong) printf("schedule %d: %d results are wrong\n", schedule, wrong);
  return wrong != 0;
}

int main(int, char **arguments) {
  int failures = 0;
  for (int schedule = 0; schedule < 4; schedule++) failures += check(atoi(arguments[1]), schedule);
  printf("%d of 4 schedules failed\n", failures);
  return failures != 0;
}
