// The gradient in the weight of a convolution, on tensor cores: outputs by (tap, channel), summed over places, both tiles
// read straight from memory with the channels innermost (`channels_last`). The places are split among blocks, whose sums
// go to memory and are added up in order by `sum_taps`. Defines: OUTPUTS (of a tile: a multiple of 16, above 48 of 32).

enum { THREADS = 128, PLACES = 64, COLUMNS = 128, STAGES = 3, NOWHERE = -(1 << 30) };
enum { OWN_ROW = OUTPUTS > 64 ? 256 : 128, ROW = COLUMNS * 2, STAGE = PLACES * (OWN_ROW + ROW) };  // bytes
enum { ACROSS = OUTPUTS > 48 ? 2 : 1, WARP_M = OUTPUTS / ACROSS, WARP_N = COLUMNS * ACROSS / 4 };

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
  int area = t.rows * t.columns, b = (int)(n / area), p = (int)(n % area);
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
    copy_async(stage + row * OWN_ROW + (column ^ row & 7) * 16, from, is_there);
  }
  int column = threadIdx.x % 16, row = threadIdx.x / 16;
  u8 *to = stage + PLACES * OWN_ROW + row * ROW + (column ^ row & 7) * 16;
#pragma unroll
  for (int i = 0; i < PLACES / 8; i++) {
    Source s = sources[row + 8 * i];
    int y = s.y + mine.down, x = s.x + mine.right;
    bool is_inside = (u32)y < (u32)t.height && (u32)x < (u32)t.width;
    const bf16 *from = t.x + (is_inside ? ((i64)s.base + (i64)(y * t.width + x) * t.granules + mine.c) * 8 : 0);
    copy_async(to + i * 8 * ROW, from, is_inside);
  }
}

struct Sums {
  float d[WARP_M / 16][WARP_N / 8][4];
};

DEVICE void multiply(Sums &sums, const u8 *stage) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, low = lane & 7;
  // Lanes of a transposed load: rows are places, 8 and 8; the first factor's halves change with bit 3 of the lane.
  const u8 *own = stage + (low + lane / 16 * 8) * OWN_ROW, *other = stage + PLACES * OWN_ROW + lane % 16 * ROW;
  int m0 = warp % ACROSS * (WARP_M / 8) + lane / 8 % 2, n0 = warp / ACROSS * (WARP_N / 8) + lane / 16;
#pragma unroll
  for (int k = 0; k < PLACES; k += 16) {
    u32 b[WARP_N / 16][4];
#pragma unroll
    for (int n = 0; n < WARP_N / 16; n++) ldmatrix4_transposed(b[n], other + k * ROW + (n0 + 2 * n ^ low) * 16);
#pragma unroll
    for (int i = 0; i < WARP_M / 16; i++) {
      u32 a[4];
      ldmatrix4_transposed(a, own + k * OWN_ROW + (m0 + 2 * i ^ low) * 16);
#pragma unroll
      for (int n = 0; n < WARP_N / 8; n++) mma_bf16(sums.d[i][n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
    }
  }
}

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
    __syncthreads();
    i64 next = step + STAGES - 1;
    int to = stage == 0 ? STAGES - 1 : stage - 1;
    if (next < last) load_step(memory + to * STAGE, t, sources[next & 1], mine, next * PLACES, o0);
    copy_commit();
    if (threadIdx.x < PLACES)
      sources[(next + 1) & 1][threadIdx.x] = source_of(t, (next + 1) * PLACES + threadIdx.x);
    multiply(sums, memory + stage * STAGE);
    stage = stage == STAGES - 1 ? 0 : stage + 1;
  }
  copy_wait<0>();
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int m0 = o0 + warp % ACROSS * WARP_M + lane / 4;
  int n0 = first_granule * 8 + warp / ACROSS * WARP_N + lane % 4 * 2, width_all = all * 8;
  parts += (i64)blockIdx.z * outputs * width_all;
#pragma unroll
  for (int i = 0; i < WARP_M / 16; i++)
#pragma unroll
    for (int n = 0; n < WARP_N / 8; n++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        int m = m0 + i * 16 + half * 8, at = n0 + n * 8;
        if (m >= outputs || at >= width_all) continue;
        const float(&d)[4] = sums.d[i][n];
        *(Pair *)(parts + (i64)m * width_all + at) = {__float_as_uint(d[2 * half]), __float_as_uint(d[2 * half + 1])};
      }
}
