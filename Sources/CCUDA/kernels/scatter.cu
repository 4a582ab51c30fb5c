// Rows x [count, width] added up at their indices, y [rows, width], in the order of their positions: which positions a
// row of the table has is found first (counts, starts and lists of them), then each row is summed. T0 is the input's
// type; WIDE is whether four elements at once can be accessed.

enum { THREADS = 256, WARPS = THREADS / 32 };

/// A warp per row of the table.
KERNEL(256) scatter_count(int *counts, const int *index, i64 count, i64 rows) {
  i64 row = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= rows) return;
  int found = 0;
#pragma unroll 4
  for (i64 i = threadIdx.x % 32; i < count; i += 32) found += index[i] == row;
  for (int offset = 16; offset > 0; offset /= 2) found += __shfl_xor_sync(0xffffffffu, found, offset);
  if (threadIdx.x % 32 == 0) counts[row] = found;
}

/// Sums of the counts before each row; one block.
KERNEL(256) scatter_starts(int *starts, const int *counts, i64 rows) {
  __shared__ int sums[THREADS];
  i64 each = (rows + THREADS - 1) / THREADS, first = threadIdx.x * each;
  i64 end = first + each < rows ? first + each : rows;
  int sum = 0;
  for (i64 i = first; i < end; i++) sum += counts[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  int before = 0;
  for (u32 i = 0; i < threadIdx.x; i++) before += sums[i];
  for (i64 i = first; i < end; i++) starts[i] = before, before += counts[i];
}

/// The positions of each row of the table, ascending; a warp per row.
KERNEL(256) scatter_list(int *list, const int *starts, const int *counts, const int *index, i64 count, i64 rows) {
  i64 row = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= rows) return;
  int lane = threadIdx.x % 32, left = counts[row], to = starts[row];
  for (i64 base = 0; base < count && left > 0; base += 32) {
    bool is = base + lane < count && index[base + lane] == row;
    // How many of the lanes before this one have the row: a scan by shuffles.
    int order = is;
    for (int distance = 1; distance < 32; distance *= 2) {
      int other = __shfl_sync(0xffffffffu, order, lane - distance < 0 ? lane : lane - distance);
      if (lane >= distance) order += other;
    }
    if (is) list[to + order - 1] = (int)(base + lane);
    int found = __shfl_sync(0xffffffffu, order, 31);
    to += found, left -= found;
  }
}

#ifdef WIDE
enum { LANE = 4 };
DEVICE void take(float (&v)[LANE], const T0 *x) { load4(v, x); }
#else
enum { LANE = 1 };
DEVICE void take(float (&v)[LANE], const T0 *x) { v[0] = load(x); }
#endif

/// A block per row of the table and 32 or 128 columns; each warp takes every eighth position.
KERNEL(256)
scatter_sum(float *y, const T0 *x, const int *list, const int *starts, const int *counts, i64 width, i64 across) {
  __shared__ float kept[WARPS][32 * LANE];
  i64 row = blockIdx.x / across, column = blockIdx.x % across * (32 * LANE) + threadIdx.x % 32 * LANE;
  int number = counts[row];
  const int *places = list + starts[row];
  float sum[LANE] = {};
  if (column < width) {
#pragma unroll 4
    for (int i = threadIdx.x / 32; i < number; i += WARPS) {
      float v[LANE];
      take(v, x + places[i] * width + column);
#pragma unroll
      for (int j = 0; j < LANE; j++) sum[j] += v[j];
    }
  }
#pragma unroll
  for (int j = 0; j < LANE; j++) kept[threadIdx.x / 32][threadIdx.x % 32 * LANE + j] = sum[j];
  __syncthreads();
  column = blockIdx.x % across * (32 * LANE) + threadIdx.x;
  if (threadIdx.x >= 32 * LANE || column >= width) return;
  float total = 0;
#pragma unroll
  for (int k = 0; k < WARPS; k++) total += kept[k][threadIdx.x];
  y[row * width + column] = total;
}
