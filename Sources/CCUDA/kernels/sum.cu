// Sums along an axis, seen as x [outer, count, inner], in an order that the sizes alone set. What is longer than a piece
// is summed by pieces, whose sums y [outer, pieces, inner] another launch sums. T0 is the elements' type; WIDE is
// whether four at once can be read.

enum { THREADS = 256 };

/// The sum of x[first], x[first + step], ... below `count`.
DEVICE float run(const T0 *x, i64 first, i64 step, i64 count) {
  float sum[4] = {0, 0, 0, 0};
#ifdef WIDE
  i64 i = 4 * first;
  for (; i + 12 * step < count; i += 16 * step) {
    float v[4][4];
#pragma unroll
    for (int k = 0; k < 4; k++) load4(v[k], x + i + 4 * k * step);
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
      for (int j = 0; j < 4; j++) sum[j] += v[k][j];
  }
  for (; i < count; i += 4 * step) {
    float v[4];
    load4(v, x + i);
#pragma unroll
    for (int j = 0; j < 4; j++) sum[j] += v[j];
  }
#else
  i64 i = first;
  for (; i + 3 * step < count; i += 4 * step)
#pragma unroll
    for (int k = 0; k < 4; k++) sum[k] += load(x + i + k * step);
  for (; i < count; i += step) sum[0] += load(x + i);
#endif
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/// A thread per row, for short ones.
KERNEL(256) sum_short_rows(float *y, const T0 *x, i64 rows, i64 count) {
  i64 row = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (row >= rows) return;
  float sum = 0;
  for (i64 i = 0; i < count; i++) sum += load(x + row * count + i);
  y[row] = sum;
}

/// Where the sum of a row of [rows / kept, kept] goes in [kept, rows / kept], so that what belongs to one of the `kept` lies
/// together.
DEVICE i64 turned(i64 row, i64 rows, i64 kept) { return kept == rows ? row : row % kept * (rows / kept) + row / kept; }

/// A warp per row.
KERNEL(256) sum_rows(float *y, const T0 *x, i64 rows, i64 kept, i64 count) {
  i64 row = (i64)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  float sum = warp_sum(run(x + row * count, threadIdx.x % 32, 32, count));
  if (threadIdx.x % 32 == 0) y[turned(row, rows, kept)] = sum;
}

/// A block per piece of a row.
KERNEL(256) sum_long_rows(float *y, const T0 *x, i64 rows, i64 kept, i64 count, i64 piece, i64 pieces) {
  __shared__ float scratch[THREADS / 32];
  i64 row = blockIdx.x / pieces, part = blockIdx.x % pieces, start = part * piece;
  i64 length = count - start < piece ? count - start : piece;
  float sum = block_sum(run(x + row * count + start, threadIdx.x, THREADS, length), scratch);
  if (threadIdx.x == 0) y[turned(row, rows, kept) * pieces + part] = sum;
}

/// x [outer, kept, count] over all but `kept`; a block for each of those.
KERNEL(256) sum_around(float *y, const T0 *x, i64 outer, i64 count) {
  __shared__ float scratch[THREADS / 32];
  float sum = 0;
  for (i64 i = 0; i < outer; i++)
    sum += run(x + (i * gridDim.x + blockIdx.x) * count, threadIdx.x, THREADS, count);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

#ifdef WIDE
enum { LANE = 4 };
#else
enum { LANE = 1 };
#endif
enum { DEEP = THREADS / 32 };

/// Columns: a block per piece of `piece` rows and 32 or 128 columns, each warp at every eighth row.
KERNEL(256) sum_columns(float *y, const T0 *x, i64 count, i64 inner, i64 piece, i64 pieces) {
  __shared__ float kept[DEEP][32 * LANE];
  i64 across = (inner + 32 * LANE - 1) / (32 * LANE);
  i64 unit = blockIdx.x / across, column = blockIdx.x % across * (32 * LANE) + threadIdx.x % 32 * LANE;
  i64 outer = unit / pieces, start = unit % pieces * piece;
  i64 end = start + piece < count ? start + piece : count;
  float sum[LANE] = {};
  if (column < inner) {
    const T0 *from = x + outer * count * inner + column;
#pragma unroll 4
    for (i64 i = start + threadIdx.x / 32; i < end; i += DEEP) {
#ifdef WIDE
      float v[4];
      load4(v, from + i * inner);
#pragma unroll
      for (int j = 0; j < 4; j++) sum[j] += v[j];
#else
      sum[0] += load(from + i * inner);
#endif
    }
  }
#pragma unroll
  for (int j = 0; j < LANE; j++) kept[threadIdx.x / 32][threadIdx.x % 32 * LANE + j] = sum[j];
  __syncthreads();
  column = blockIdx.x % across * (32 * LANE) + threadIdx.x;
  if (threadIdx.x >= 32 * LANE || column >= inner) return;
  float total = 0;
#pragma unroll
  for (int k = 0; k < DEEP; k++) total += kept[k][threadIdx.x];
  y[unit * inner + column] = total;
}

/// The sum over nothing.
KERNEL(256) zeros(float *y, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i < count) y[i] = 0;
}
