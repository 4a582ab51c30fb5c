// Convolutions of many channels, and their transposes, on tensor cores: matrix products of places by channels over the
// taps' channels, both tiles read straight from memory with the channels innermost (`channels_last`), without columns in
// memory (implicit GEMM: Chetlur et al. 2014, "cuDNN"). A transpose with strides is a convolution per phase of the
// result. Defines: T2 (elements of the result), CHANNELS (of a tile: a multiple of 8, above 64 of 16).

enum { THREADS = 128, PLACES = 128, STAGES = 3, ROW = 128 };  // ROW: bytes, of 64 channels
enum { ACROSS = CHANNELS > 64 ? 2 : 1, WARP_P = PLACES * ACROSS / 4, WARP_C = CHANNELS / ACROSS };
enum { STAGE = (PLACES + CHANNELS) * ROW, NOWHERE = -(1 << 30) };

/// Where a place's input is: its image's first granule of 8 channels, and its row and column before taps shift them.
struct alignas(16) Source {
  int base, y, x, unused;
};

/// What is convolved. `table` holds, in ints, per phase: first tap, taps, first row and column in the result, rows,
/// columns, two unused; then per tap: rows and columns to its input, its number in the weight, one unused.
struct Task {
  const bf16 *x, *w;
  const int *table;
  int height, width, granules, outputs, taps;
};

/// A step of the sums: 8 granules of channels, each of its own tap.
DEVICE void load_step(u8 *stage, const Task &t, const Source *sources, const int *taps, int count, int step, int m0) {
  int column = threadIdx.x % 8, row = threadIdx.x / 8, granule = step * 8 + column;
  bool is_there = granule < count * t.granules;
  int tap = is_there ? granule / t.granules : 0, c = is_there ? granule - tap * t.granules : 0;
  int down = taps[4 * tap], right = taps[4 * tap + 1], number = taps[4 * tap + 2];
  u8 *to = stage + row * ROW + (column ^ row & 7) * 16;
#pragma unroll
  for (int i = 0; i < PLACES / 16; i++) {
    Source s = sources[row + 16 * i];
    int y = s.y + down, x = s.x + right;
    bool is_inside = is_there && (u32)y < (u32)t.height && (u32)x < (u32)t.width;
    const bf16 *from = t.x + (is_inside ? ((i64)s.base + (i64)(y * t.width + x) * t.granules + c) * 8 : 0);
    copy_async(to + i * 16 * ROW, from, is_inside);
  }
  to += PLACES * ROW;
#pragma unroll
  for (int i = 0; i < (CHANNELS + 15) / 16; i++) {
    int m = m0 + row + 16 * i;
    if (CHANNELS % 16 != 0 && row + 16 * i >= CHANNELS) break;
    bool is_inside = is_there && m < t.outputs;
    const bf16 *from = t.w + (is_inside ? (((i64)m * t.taps + number) * t.granules + c) * 8 : 0);
    copy_async(to + i * 16 * ROW, from, is_inside);
  }
}

struct Sums {
  float d[WARP_P / 16][WARP_C / 8][4];
};

DEVICE void multiply(Sums &sums, const u8 *stage) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, low = lane & 7;
  const u8 *places = stage + (warp / ACROSS * WARP_P + lane % 16) * ROW;
  const u8 *channels = stage + (PLACES + warp % ACROSS * WARP_C + low) * ROW;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    u32 b[WARP_C / 8][4];
#pragma unroll
    for (int n = 0; n < WARP_C / 8; n++) ldmatrix4(b[n], channels + n * 8 * ROW + ((half * 4 + lane / 8) ^ low) * 16);
#pragma unroll
    for (int i = 0; i < WARP_P / 16; i++) {
#pragma unroll
      for (int k = 0; k < 2; k++) {
        u32 a[4];
        ldmatrix4(a, places + i * 16 * ROW + ((half * 4 + k * 2 + lane / 16) ^ low) * 16);
#pragma unroll
        for (int n = 0; n < WARP_C / 8; n++) mma_bf16(sums.d[i][n], a, b[n][2 * k], b[n][2 * k + 1]);
      }
    }
  }
}

DEVICE void copy8(float *to, const float *from) {
  *(Quad *)to = *(const Quad *)from, *(Quad *)(to + 4) = *(const Quad *)(from + 4);
}
DEVICE void copy8(bf16 *to, const bf16 *from) { *(Quad *)to = *(const Quad *)from; }

/// The tile's sums to their places, through shared memory, so that neighbours in memory are written together.
template <class T>
DEVICE void give(T *y, T *tile, const Sums &sums, const i64 *places, int m0, int outputs, i64 area) {
  enum { WIDTH = PLACES + 16 / sizeof(T) };
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int p0 = warp / ACROSS * WARP_P + lane / 4, c0 = warp % ACROSS * WARP_C + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < WARP_P / 16; i++)
#pragma unroll
    for (int n = 0; n < WARP_C / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        store(tile + (c0 + n * 8 + e % 2) * WIDTH + p0 + i * 16 + e / 2 * 8, sums.d[i][n][e]);
  __syncthreads();
  for (int i = threadIdx.x; i < CHANNELS * PLACES / 8; i += THREADS) {
    int c = i / (PLACES / 8), p = i % (PLACES / 8) * 8;
    if (m0 + c >= outputs) break;
    T *to = y + (m0 + c) * area;
    const T *from = tile + c * WIDTH + p;
    // Places go up, so that eight from first to last are neighbours.
    if (places[p + 7] == places[p] + 7 && places[p] >= 0 && (u64)(to + places[p]) % 16 == 0) {
      copy8(to + places[p], from);
    } else {
      for (int j = 0; j < 8; j++)
        if (places[p + j] >= 0) to[places[p + j]] = from[j];
    }
  }
}

/// Blocks: (tiles of channels, tiles of places, phases x splits). With several splits, the sums of each go to `parts`.
KERNEL(THREADS) wide(T2 *y, float *parts, const bf16 *x, const bf16 *w, const int *table, int batch, int height, int width,
                     int granules, int outputs, int rows, int columns, int taps, int phases, int in_stride_y,
                     int in_stride_x, int out_stride_y, int out_stride_x, int splits) {
  SHARED_MEMORY(memory);
  __shared__ Source sources[PLACES];
  __shared__ i64 places[PLACES];
  Task t = {x, w, table, height, width, granules, outputs, taps};
  const int *phase = table + blockIdx.z / splits * 8, *list = table + phases * 8 + phase[0] * 4;
  int count = phase[1], across = phase[5], split = blockIdx.z % splits;
  i64 within = (i64)phase[4] * across, area = (i64)rows * columns, n0 = (i64)blockIdx.y * PLACES;
  if (n0 >= batch * within) return;
  int m0 = blockIdx.x * CHANNELS;
  {
    i64 n = n0 + threadIdx.x;
    if (n < batch * within) {
      int b = (int)(n / within), p = (int)(n % within), q = p / across, r = p % across;
      sources[threadIdx.x] = {b * height * width * granules, q * in_stride_y, r * in_stride_x, 0};
      places[threadIdx.x] =
          b * outputs * area + (i64)(phase[2] + q * out_stride_y) * columns + phase[3] + r * out_stride_x;
    } else {
      sources[threadIdx.x] = {0, NOWHERE, NOWHERE, 0};
      places[threadIdx.x] = -1;
    }
  }
  __syncthreads();
  int steps = (count * granules + 7) / 8, share = (steps + splits - 1) / splits, first = split * share;
  int last = first + share < steps ? first + share : steps;
  Sums sums = {};
#pragma unroll
  for (int i = 0; i < STAGES - 1; i++) {
    if (first + i < last) load_step(memory + i * STAGE, t, sources, list, count, first + i, m0);
    copy_commit();
  }
  for (int step = first; step < last; step++) {
    copy_wait<STAGES - 2>();
    __syncthreads();
    int next = step + STAGES - 1;
    if (next < last) load_step(memory + (next - first) % STAGES * STAGE, t, sources, list, count, next, m0);
    copy_commit();
    multiply(sums, memory + (step - first) % STAGES * STAGE);
  }
  copy_wait<0>();
  __syncthreads();
  if (splits > 1)
    give(parts + split * batch * outputs * area, (float *)memory, sums, places, m0, outputs, area);
  else
    give(y, (T2 *)memory, sums, places, m0, outputs, area);
}
