// Convolutions of many channels, and their transposes, on tensor cores: matrix products of places by channels over the
// taps' channels, both tiles read straight from memory with the channels innermost (`channels_last`), without columns in
// memory (implicit GEMM: Chetlur et al. 2014, "cuDNN"). A transpose with strides is a convolution per phase of the
// result. Defines: T2 (elements of the result), CHANNELS (of a tile: a multiple of 8, above 64 of 16).

enum { THREADS = 128, PLACES = 128, STAGES = 3, ROW = 128 };  // ROW: bytes, of 64 channels
enum { STAGE = (PLACES + CHANNELS) * ROW };

/// A place's input before taps shift it, in granules of 8 channels, and which of the taps fall into the image.
struct alignas(8) Source {
  int first;
  u32 taps;
};

/// What is convolved; `taps` are those of a phase.
struct Task {
  const bf16 *x, *w;
  const Tap *taps;
  int count, granules, outputs, all_taps;
};

/// A step of the sums: 8 granules. 8 granules of a channel group go through all taps before the next 8, so that what
/// the taps share is still near; granules left over at the end are taken together, tap by tap.
DEVICE void load_step(u8 *stage, const Task &t, const Source *sources, int step, int m0) {
  int column = threadIdx.x % 8, row = threadIdx.x / 8, groups = t.granules / 8, group = step / t.count;
  int tap = step - group * t.count, c = group * 8 + column;
  bool is_there = true;
  if (group >= groups) {
    int rest = t.granules - groups * 8, granule = (step - groups * t.count) * 8 + column;
    tap = granule / rest, c = groups * 8 + granule - tap * rest;
    is_there = tap < t.count;
    if (!is_there) tap = 0;
  }
  Tap own = t.taps[tap];
  u8 *to = stage + row * ROW + (column ^ row & 7) * 16;
#pragma unroll
  for (int i = 0; i < PLACES / 16; i++) {
    Source s = sources[row + 16 * i];
    bool is_inside = is_there && s.taps >> tap & 1;
    // Taps overlap: through the cache that they share.
    copy_async_near(to + i * 16 * ROW, t.x + (is_inside ? (i64)(s.first + own.shift + c) * 8 : 0), is_inside);
  }
  to += PLACES * ROW;
#pragma unroll
  for (int i = 0; i < (CHANNELS + 15) / 16; i++) {
    int m = m0 + row + 16 * i;
    if (CHANNELS % 16 != 0 && row + 16 * i >= CHANNELS) break;
    bool is_inside = is_there && m < t.outputs;
    const bf16 *from = t.w + (is_inside ? (((i64)m * t.all_taps + own.number) * t.granules + c) * 8 : 0);
    copy_async(to + i * 16 * ROW, from, is_inside);
  }
}

#ifdef FLOW_SM90A
enum { TILES_P = 2, TILES_C = CHANNELS / 8 };

struct Sums {
  float d[TILES_P][TILES_C][4];
};
/// The first place and channel of tile (i, n) that the thread has sums of: places p and p + 8, channels c and c + 1.
DEVICE int place_of(int i) { return i * 64 + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4; }
DEVICE int channel_of(int n) { return n * 8 + threadIdx.x % 4 * 2; }

/// What tells the tensor cores of a tile in shared memory (PTX ISA, "Matrix Descriptor Format"): rows of 128 bytes whose
/// 16-byte parts are exchanged by the row's last three bits, 8 rows after 1024 bytes.
DEVICE u64 descriptor(const u8 *tile) {
  return (u64)(shared_address(tile) >> 4 & 0x3fff) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62;
}

#define MULTIPLY(columns, names, sums, of_a, of_b, ...)                                                            \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" names "}, " of_a ", " of_b \
               ", 1, 1, 1, 0, 0;"                                                                            \
               : sums, "+l"(a), "+l"(b))

/// d [64, CHANNELS] += a [64, 16] b [CHANNELS, 16], not waited for.
DEVICE void multiply_group(float (&d)[TILES_C][4], u64 a, u64 b) {
#ifdef FLOW_SHIM
  shim_wgmma(&d[0][0], CHANNELS, false, 0, a, b, false);
#else
  MULTIPLY_TILE;
#endif
}

/// Makes what was copied readable by the tensor cores, and waits for those of this warp.
DEVICE void settle() { wgmma_see_shared(), wgmma_wait<0>(); }
DEVICE void pin(Sums &sums) {
#pragma unroll
  for (int i = 0; i < TILES_P; i++) wgmma_pin(sums.d[i]);
}

DEVICE void multiply(Sums &sums, const u8 *stage) {
  wgmma_begin();
  u64 a = descriptor(stage), b = descriptor(stage + PLACES * ROW);
#pragma unroll
  for (int k = 0; k < 4; k++)
#pragma unroll
    for (int i = 0; i < TILES_P; i++) multiply_group(sums.d[i], a + i * 64 * ROW / 16 + k * 2, b + k * 2);
  wgmma_commit();
}
#else
enum { ACROSS = CHANNELS > 64 ? 2 : 1, TILES_P = PLACES * ACROSS / 64, TILES_C = CHANNELS / ACROSS / 8 };

struct Sums {
  float d[TILES_P][TILES_C][4];
};
DEVICE int place_of(int i) { return (threadIdx.x / 32 / ACROSS * TILES_P + i) * 16 + threadIdx.x % 32 / 4; }
DEVICE int channel_of(int n) { return (threadIdx.x / 32 % ACROSS * TILES_C + n) * 8 + threadIdx.x % 4 * 2; }

DEVICE void settle() {}
DEVICE void pin(Sums &) {}

DEVICE void multiply(Sums &sums, const u8 *stage) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, low = lane & 7;
  const u8 *places = stage + (warp / ACROSS * TILES_P * 16 + lane % 16) * ROW;
  const u8 *channels = stage + (PLACES + warp % ACROSS * TILES_C * 8 + low) * ROW;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    u32 b[TILES_C][4];
#pragma unroll
    for (int n = 0; n < TILES_C; n++) ldmatrix4(b[n], channels + n * 8 * ROW + ((half * 4 + lane / 8) ^ low) * 16);
#pragma unroll
    for (int i = 0; i < TILES_P; i++) {
#pragma unroll
      for (int k = 0; k < 2; k++) {
        u32 a[4];
        ldmatrix4(a, places + i * 16 * ROW + ((half * 4 + k * 2 + lane / 16) ^ low) * 16);
#pragma unroll
        for (int n = 0; n < TILES_C; n++) mma_bf16(sums.d[i][n], a, b[n][2 * k], b[n][2 * k + 1]);
      }
    }
  }
}
#endif

/// The tile's sums to their places, through shared memory, so that neighbours in memory are written together.
template <class T>
DEVICE void give(T *y, T *tile, const Sums &sums, const i64 *places, int m0, int outputs, i64 area) {
  enum { WIDTH = PLACES + 16 / sizeof(T) };
#pragma unroll
  for (int i = 0; i < TILES_P; i++)
#pragma unroll
    for (int n = 0; n < TILES_C; n++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        store(tile + (channel_of(n) + e % 2) * WIDTH + place_of(i) + e / 2 * 8, sums.d[i][n][e]);
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
/// The taps of all phases follow the phases.
KERNEL(THREADS) wide(T2 *y, float *parts, const bf16 *x, const bf16 *w, const Phase *table, int batch, int height,
                     int width, int granules, int outputs, int rows, int columns, int all_taps, int phases,
                     int in_stride_y, int in_stride_x, int out_stride_y, int out_stride_x, int splits) {
  SHARED_MEMORY(memory);
  __shared__ Source sources[PLACES];
  Phase phase = table[blockIdx.z / splits];
  const Tap *taps = (const Tap *)(table + phases) + phase.first;
  int split = blockIdx.z % splits, m0 = blockIdx.x * CHANNELS;
  u32 within = phase.rows * phase.columns, n = blockIdx.y * PLACES + threadIdx.x;
  i64 area = (i64)rows * columns;
  if (blockIdx.y * PLACES >= batch * within) return;
  int b = n / within, p = n % within, row = p / phase.columns, column = p % phase.columns;
  {
    int y0 = row * in_stride_y, x0 = column * in_stride_x;
    u32 mask = 0;
    if (n < batch * within)
      for (int i = 0; i < phase.count; i++) {
        bool is_inside = (u32)(y0 + taps[i].down) < (u32)height && (u32)(x0 + taps[i].right) < (u32)width;
        mask |= (u32)is_inside << i;
      }
    sources[threadIdx.x] = {((b * height + y0) * width + x0) * granules, mask};
  }
  __syncthreads();
  Task t = {x, w, taps, phase.count, granules, outputs, all_taps};
  int rest = granules % 8;
  int steps = granules / 8 * phase.count + (rest * phase.count + 7) / 8, share = (steps + splits - 1) / splits;
  int first = split * share, last = first + share < steps ? first + share : steps;
  Sums sums = {};
  pin(sums);
#pragma unroll
  for (int i = 0; i < STAGES - 1; i++) {
    if (first + i < last) load_step(memory + i * STAGE, t, sources, first + i, m0);
    copy_commit();
  }
  int stage = 0;
  for (int step = first; step < last; step++) {
    copy_wait<STAGES - 2>();
    settle();
    __syncthreads();
    multiply(sums, memory + stage * STAGE);
    int next = step + STAGES - 1, to = stage == 0 ? STAGES - 1 : stage - 1;
    if (next < last) load_step(memory + to * STAGE, t, sources, next, m0);
    copy_commit();
    stage = stage == STAGES - 1 ? 0 : stage + 1;
  }
  copy_wait<0>();
  settle();
  pin(sums);
  __syncthreads();
  // Behind the tile of sums.
  i64 *places = (i64 *)(memory + CHANNELS * (PLACES + 8) * 4);
  places[threadIdx.x] = -1;
  if (n < batch * within)
    places[threadIdx.x] = b * outputs * area + (i64)(phase.row + row * out_stride_y) * columns + phase.column +
                          column * out_stride_x;
  if (splits > 1)
    give(parts + split * batch * outputs * area, (float *)memory, sums, places, m0, outputs, area);
  else
    give(y, (T2 *)memory, sums, places, m0, outputs, area);
}
