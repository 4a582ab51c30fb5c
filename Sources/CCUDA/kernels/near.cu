// Convolutions of few channels, and their transposes, on tensor cores: a tile of the image with all that its taps reach is
// in shared memory once, beside the weights of all taps, and each tap's factor is rows of it. Blocks stay and take tile
// after tile. Defines: T2 (elements of the result), IN (channels that the image has in memory: a multiple of 16), OUT
// (channels of a tile of the result: a multiple of 8), RUNS (of 16 places, of a warp), WIDE (places of a row of a tile:
// a multiple of 16).

enum { THREADS = 128, PLACES = 64 * RUNS, TALL = PLACES / WIDE, GRANULES = IN / 8 };
enum { PITCH = IN * 2 + 16 };                   // bytes of a place: an odd number of 16, so that neighbours differ in banks
enum { OUT_ROWS = (OUT + 15) / 16 * 16 };

/// The image's tile: rows and columns, and columns of one remainder by the stride, which are kept together so that the
/// places of a tap are neighbours.
struct Tile {
  int rows, columns, alike;
};

DEVICE void load_weights(u8 *to, const bf16 *w, const Tap *taps, int count, int all_taps, int m0, int outputs) {
  for (int i = threadIdx.x; i < count * OUT_ROWS * GRANULES; i += THREADS) {
    int c = i % GRANULES, row = i / GRANULES, m = m0 + row % OUT_ROWS, number = taps[row / OUT_ROWS].number;
    bool is_there = m < outputs;
    copy_async(to + row * PITCH + c * 16, w + (is_there ? (((i64)m * all_taps + number) * GRANULES + c) * 8 : 0), is_there);
  }
}

/// The image from row y0 and column x0 on, zeros outside. A warp takes a row, or with one row a share of its columns.
DEVICE void load_tile(u8 *to, const bf16 *x, const Tile &tile, int height, int width, int y0, int x0, int stride) {
  enum { BESIDE = 32 / GRANULES };  // columns at a time
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = lane % GRANULES;
  int first = lane / GRANULES, step = BESIDE, line = tile.alike * stride;
  if (lane >= BESIDE * GRANULES) return;
  if (tile.rows == 1) first += warp * BESIDE, step = THREADS / 32 * BESIDE, warp = 0;
  for (int r = warp; r < tile.rows; r += THREADS / 32) {
    int y = y0 + r;
    bool is_row = (u32)y < (u32)height;
    const bf16 *row = x + (is_row ? (i64)y * width * IN : 0) + c * 8;
    u8 *slots = to + r * line * PITCH + c * 16;
    for (int column = first; column < tile.columns; column += step) {
      int at = x0 + column, slot = column;
      if (stride == 2)
        slot = (column & 1) * tile.alike + (column >> 1);
      else if (stride > 2)
        slot = column % stride * tile.alike + column / stride;
      bool is_inside = is_row && (u32)at < (u32)width;
      copy_async(slots + slot * PITCH, row + (is_inside ? at * IN : 0), is_inside);
    }
  }
}

struct Sums {
  float d[RUNS][OUT / 8][4];
};

/// The place in the tile that row `row` of the warp's run i has.
DEVICE int place_of(int i, int row) { return (threadIdx.x / 32 * RUNS + i) * 16 + row; }

/// Both factors of 16 channels of a tap.
struct Factors {
  u32 a[RUNS][4], b[OUT_ROWS / 16][4];
};

DEVICE void multiply(Sums &sums, const u8 *image, const u8 *weights, const int *shifts, int count, int line, int stride_y) {
  enum { PARTS = IN / 16 };
  int lane = threadIdx.x % 32, steps = count * PARTS;
  const u8 *rows[RUNS];
#pragma unroll
  for (int i = 0; i < RUNS; i++) {
    int p = place_of(i, lane % 16);
    rows[i] = image + (p / WIDE * stride_y * line + p % WIDE) * PITCH + lane / 16 * 16;
  }
  weights += (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16;
  auto fetch = [&](Factors &f, int step) {
    if (step >= steps) return;
    int tap = step / PARTS, part = step % PARTS * 32, shift = shifts[tap] * PITCH + part;
#pragma unroll
    for (int n = 0; n < OUT_ROWS / 16; n++) ldmatrix4(f.b[n], weights + (tap * OUT_ROWS + n * 16) * PITCH + part);
#pragma unroll
    for (int i = 0; i < RUNS; i++) ldmatrix4(f.a[i], rows[i] + shift);
  };
  auto add = [&](const Factors &f) {
#pragma unroll
    for (int i = 0; i < RUNS; i++)
#pragma unroll
      for (int n = 0; n < OUT / 8; n++) mma_bf16(sums.d[i][n], f.a[i], f.b[n / 2][n % 2 * 2], f.b[n / 2][n % 2 * 2 + 1]);
  };
  // The next factors are on their way while these are multiplied.
  Factors now, next;
  fetch(now, 0);
  for (int step = 0; step < steps; step += 2) {
    fetch(next, step + 1);
    add(now);
    if (step + 1 == steps) break;
    fetch(now, step + 2);
    add(next);
  }
}

/// Blocks: (those that share the tiles, tiles of outputs, phases of rows). The phases of a row's columns, `beside` of them,
/// are made one after another from the same tile and written together.
KERNEL(THREADS) near(T2 *y, const bf16 *x, const bf16 *w, const Phase *table, int batch, int height, int width, int outputs,
                     int rows, int columns, int all_taps, int in_stride_y, int in_stride_x, int out_stride_y, int beside,
                     int tile_rows, int tile_columns, int alike) {
  enum { PAD = 16 / sizeof(T2) };
  SHARED_MEMORY(memory);
  __shared__ int shifts[64];
  const Phase *phases = table + blockIdx.z * beside;
  const Phase phase = phases[0];
  const Tap *taps = (const Tap *)(table + gridDim.z * beside) + phase.first;
  Tile tile = {tile_rows, tile_columns, alike};
  int m0 = blockIdx.y * OUT, line = alike * in_stride_x, count = 0;
  for (int i = 0; i < beside; i++) count += phases[i].count;
  u8 *weights = memory, *image = memory + count * OUT_ROWS * PITCH;
  // With one phase the sums take the image's place.
  T2 *out = (T2 *)(beside == 1 ? image : image + tile_rows * line * PITCH);
  int out_line = PLACES * beside + PAD, out_wide = WIDE * beside;
  load_weights(weights, w, taps, count, all_taps, m0, outputs);
  if (threadIdx.x < count) {
    int down = taps[threadIdx.x].down - phase.down, right = taps[threadIdx.x].right - phase.right;
    shifts[threadIdx.x] = down * line + right % in_stride_x * alike + right / in_stride_x;
  }
  int across = (phase.columns + WIDE - 1) / WIDE, within = (phase.rows + TALL - 1) / TALL * across;
  i64 area = (i64)rows * columns;
  for (int at = blockIdx.x; at < batch * within; at += gridDim.x) {
    int b = at / within, qy = at % within / across * TALL, qx = at % within % across * WIDE;
    load_tile(image, x + (i64)b * height * width * IN, tile, height, width, qy * in_stride_y + phase.down,
              qx * in_stride_x + phase.right, in_stride_x);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    for (int side = 0, before = 0; side < beside; side++) {
      Sums sums = {};
      multiply(sums, image, weights + before * OUT_ROWS * PITCH, shifts + before, phases[side].count, line, in_stride_y);
      before += phases[side].count;
      if (beside == 1) __syncthreads();
#pragma unroll
      for (int i = 0; i < RUNS; i++)
#pragma unroll
        for (int n = 0; n < OUT / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            int p = place_of(i, threadIdx.x % 32 / 4 + e / 2 * 8);
            store(out + (n * 8 + threadIdx.x % 4 * 2 + e % 2) * out_line + p * beside + side, sums.d[i][n][e]);
          }
    }
    __syncthreads();
    // Neighbours in memory together.
    for (int i = threadIdx.x; i < OUT * PLACES / 8 * beside; i += THREADS) {
      int m = i / (PLACES / 8 * beside), p = i % (PLACES / 8 * beside) * 8;
      int row = qy + p / out_wide, column = qx * beside + p % out_wide;
      if (m0 + m >= outputs || row >= phase.rows) continue;
      T2 *to = y + ((i64)b * outputs + m0 + m) * area + (i64)(phase.row + row * out_stride_y) * columns + column;
      const T2 *from = out + m * out_line + p;
      if (column + 8 <= columns && (u64)to % 16 == 0) {
        copy8(to, from);
      } else {
        for (int j = 0; j < 8; j++)
          if (column + j < columns) to[j] = from[j];
      }
    }
    __syncthreads();
  }
}
