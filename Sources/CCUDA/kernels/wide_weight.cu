// The gradient in the weight of a convolution, on tensor cores: outputs by (tap, channel), summed over places, both tiles
// read straight from memory with the channels innermost (`channels_last`). The places are split among blocks, whose sums
// go to memory and are added up in order by `sum_taps`. Defines: OUTPUTS (of a tile: a multiple of 16, above 48 of 32).

enum { THREADS = 128, PLACES = 64, COLUMNS = 128, STAGES = 3, NOWHERE = -(1 << 30) };
// Bytes: of 64 outputs at all places (a panel), of the columns at a place, of a step.
enum { PANEL = PLACES * 128, ROW = COLUMNS * 2, OTHER = (OUTPUTS + 63) / 64 * PANEL, STAGE = OTHER + PLACES * ROW };

/// Where a place's input is: its image's first granule of 8 channels, and its row and column before taps shift them.
struct alignas(16) Source {
  int base, y, x, unused;
};

struct Task {
  const bf16 *x, *g;
  i64 places;
  int height, width, granules, own_granules, rows, columns, stride_y, stride_x, pad_y, pad_x;
};

DEVICE Source source_of(const Task &t, i64 n) {
  if (n >= t.places) return {0, NOWHERE, NOWHERE, 0};
  u32 area = t.rows * t.columns;
  int b = (u32)n / area, p = (u32)n % area;
  return {b * t.height * t.width * t.granules, p / t.columns * t.stride_y - t.pad_y,
          p % t.columns * t.stride_x - t.pad_x, 0};
}

/// What a thread loads of the image for all places: a granule of one tap's channels.
struct Granule {
  int c, down, right;
};

DEVICE void load_step(u8 *stage, const Task &t, const Source *sources, const Granule &mine, i64 n0, int o0) {
  enum { OWN = OUTPUTS / 8 };
#pragma unroll
  for (int i = threadIdx.x; i < PLACES * OWN; i += THREADS) {
    int row = i / OWN, column = i % OWN, o = o0 / 8 + column;
    bool is_there = n0 + row < t.places && o < t.own_granules;
    const bf16 *from = t.g + (is_there ? ((n0 + row) * t.own_granules + o) * 8 : 0);
    copy_async(stage + column / 8 * PANEL + row * 128 + ((column ^ row) & 7) * 16, from, is_there);
  }
  int column = threadIdx.x % 16, row = threadIdx.x / 16;
  u8 *to = stage + OTHER + row * ROW + (column ^ row & 7) * 16;
#pragma unroll
  for (int i = 0; i < PLACES / 8; i++) {
    Source s = sources[row + 8 * i];
    int y = s.y + mine.down, x = s.x + mine.right;
    bool is_inside = (u32)y < (u32)t.height && (u32)x < (u32)t.width;
    const bf16 *from = t.x + (is_inside ? ((i64)s.base + (i64)(y * t.width + x) * t.granules + mine.c) * 8 : 0);
    copy_async(to + i * 8 * ROW, from, is_inside);
  }
}

#ifdef FLOW_SM90A
enum { TILES_M = 2, TILES_N = OUTPUTS / 8 };

/// Columns by outputs.
struct Sums {
  float d[TILES_M][TILES_N][4];
};
DEVICE int column_of(int i, int, int e) { return i * 64 + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + e / 2 * 8; }
DEVICE int output_of(int, int n, int e) { return n * 8 + threadIdx.x % 4 * 2 + e % 2; }

#define MULTIPLY(columns, names, sums, a0, a1, a2, a3, of_b)                                                   \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" names "}, {" a0 ", " a1 ", " \
               a2 ", " a3 "}, " of_b ", 1, 1, 1, 1;"                                                          \
               : sums, "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3]), "+l"(b))

/// d [64, OUTPUTS] += a [64, 16] b [16, OUTPUTS], not waited for.
DEVICE void multiply_group(float (&d)[TILES_N][4], u32 (&a)[4], u64 b) {
#ifdef FLOW_SHIM
  shim_wgmma(&d[0][0], OUTPUTS, false, a, 0, b, true);
#else
  MULTIPLY_TILE;
#endif
}

/// Multiplies a step; `meanwhile` is done before its sums are waited for.
template <class Other> DEVICE void multiply(Sums &sums, u8 *stage, Other meanwhile) {
  int lane = threadIdx.x % 32, low = lane & 7, m0 = threadIdx.x / 32 * 2 + lane / 8 % 2;
  const u8 *columns = stage + OTHER + (low + lane / 16 * 8) * ROW;
  u32 a[PLACES / 16][TILES_M][4];
#pragma unroll
  for (int k = 0; k < PLACES / 16; k++)
#pragma unroll
    for (int i = 0; i < TILES_M; i++) ldmatrix4_transposed(a[k][i], columns + k * 16 * ROW + (m0 + 8 * i ^ low) * 16);
  wgmma_pin(sums.d[0]), wgmma_pin(sums.d[1]);
  wgmma_begin();
#pragma unroll
  for (int k = 0; k < PLACES / 16; k++)
#pragma unroll
    for (int i = 0; i < TILES_M; i++) multiply_group(sums.d[i], a[k][i], tile_matrix<PLACES>(stage, k * 16, 0));
  wgmma_commit();
  meanwhile();
  wgmma_wait<0>();
  wgmma_pin(sums.d[0]), wgmma_pin(sums.d[1]);
#ifndef FLOW_SHIM
  // The first factor's registers are read until here.
#pragma unroll
  for (int k = 0; k < PLACES / 16; k++)
#pragma unroll
    for (int i = 0; i < TILES_M; i++)
      asm volatile("" : "+r"(a[k][i][0]), "+r"(a[k][i][1]), "+r"(a[k][i][2]), "+r"(a[k][i][3]));
#endif
}
DEVICE void see_shared() { wgmma_see_shared(); }
#else
enum { ACROSS = OUTPUTS > 48 ? 2 : 1, TILES_M = OUTPUTS / ACROSS / 16, TILES_N = COLUMNS * ACROSS / 32 };

/// Outputs by columns.
struct Sums {
  float d[TILES_M][TILES_N][4];
};
DEVICE int column_of(int, int n, int e) {
  return (threadIdx.x / 32 / ACROSS * TILES_N + n) * 8 + threadIdx.x % 4 * 2 + e % 2;
}
DEVICE int output_of(int i, int, int e) {
  return (threadIdx.x / 32 % ACROSS * TILES_M + i) * 16 + threadIdx.x % 32 / 4 + e / 2 * 8;
}

template <class Other> DEVICE void multiply(Sums &sums, u8 *stage, Other meanwhile) {
  meanwhile();
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, low = lane & 7;
  // Lanes of a transposed load: rows are places, 8 and 8; the first factor's halves change with bit 3 of the lane.
  const u8 *own = stage + (low + lane / 16 * 8) * 128, *other = stage + OTHER + lane % 16 * ROW;
  int m0 = warp % ACROSS * TILES_M * 2 + lane / 8 % 2, n0 = warp / ACROSS * TILES_N + lane / 16;
#pragma unroll
  for (int k = 0; k < PLACES; k += 16) {
    u32 b[TILES_N / 2][4];
#pragma unroll
    for (int n = 0; n < TILES_N / 2; n++) ldmatrix4_transposed(b[n], other + k * ROW + (n0 + 2 * n ^ low) * 16);
#pragma unroll
    for (int i = 0; i < TILES_M; i++) {
      int m = m0 + 2 * i;
      u32 a[4];
      ldmatrix4_transposed(a, own + m / 8 * PANEL + k * 128 + ((m ^ low) & 7) * 16);
#pragma unroll
      for (int n = 0; n < TILES_N; n++) mma_bf16(sums.d[i][n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
    }
  }
}
DEVICE void see_shared() {}
#endif

/// Blocks: (tiles of columns, tiles of outputs, splits). parts [splits, outputs, taps, whole].
KERNEL(THREADS) wide_weight(float *parts, const bf16 *x, const bf16 *g, i64 places, int height, int width, int granules,
                            int outputs, int rows, int columns, int taps_y, int taps_x, int stride_y, int stride_x,
                            int pad_y, int pad_x, int gap_y, int gap_x, int splits) {
  SHARED_MEMORY(memory);
  __shared__ Source sources[2][PLACES];
  Task t = {x, g, places, height, width, granules, (outputs + 7) / 8, rows, columns, stride_y, stride_x, pad_y, pad_x};
  int o0 = blockIdx.y * OUTPUTS, first_granule = blockIdx.x * (COLUMNS / 8), all = taps_y * taps_x * granules;
  int granule = first_granule + threadIdx.x % 16, tap = granule / granules;
  Granule mine = {granule % granules, tap / taps_x * gap_y, tap % taps_x * gap_x};
  if (granule >= all) mine.down = NOWHERE;
  i64 steps = (places + PLACES - 1) / PLACES, share = (steps + splits - 1) / splits, first = blockIdx.z * share;
  i64 last = first + share < steps ? first + share : steps;
  Sums sums = {};
  // The sources of a step are worked out a step before they are read.
  if (threadIdx.x < PLACES) sources[first & 1][threadIdx.x] = source_of(t, first * PLACES + threadIdx.x);
#pragma unroll
  for (int i = 0; i < STAGES - 1; i++) {
    __syncthreads();
    i64 step = first + i;
    if (step < last) load_step(memory + i * STAGE, t, sources[step & 1], mine, step * PLACES, o0);
    copy_commit();
    if (threadIdx.x < PLACES)
      sources[(step + 1) & 1][threadIdx.x] = source_of(t, (step + 1) * PLACES + threadIdx.x);
  }
  int stage = 0;
  for (i64 step = first; step < last; step++) {
    copy_wait<STAGES - 2>();
    see_shared();
    __syncthreads();
    multiply(sums, memory + stage * STAGE, [&] {
      i64 next = step + STAGES - 1;
      int to = stage == 0 ? STAGES - 1 : stage - 1;
      if (next < last) load_step(memory + to * STAGE, t, sources[next & 1], mine, next * PLACES, o0);
      copy_commit();
      if (threadIdx.x < PLACES)
        sources[(next + 1) & 1][threadIdx.x] = source_of(t, (next + 1) * PLACES + threadIdx.x);
    });
    stage = stage == STAGES - 1 ? 0 : stage + 1;
  }
  copy_wait<0>();
  int width_all = all * 8;
  parts += (i64)blockIdx.z * outputs * width_all;
#pragma unroll
  for (int i = 0; i < TILES_M; i++)
#pragma unroll
    for (int n = 0; n < TILES_N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int m = o0 + output_of(i, n, e), at = first_granule * 8 + column_of(i, n, e);
        if (m < outputs && at < width_all) parts[(i64)m * width_all + at] = sums.d[i][n][e];
      }
}
