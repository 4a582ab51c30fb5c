// The last step of sums whose parts lie in memory, in an order that depends on the sizes only.

/// y[0] = the sum of `parts` numbers, by one block.
KERNEL(256) add_parts(float *y, const float *parts, int count, int) {
  __shared__ float scratch[8];
  float sum = 0;
  for (int i = threadIdx.x; i < count; i += 256) sum += parts[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *y = sum;
}

/// y[j] = the sum of parts[i, j] over `rows` rows: 32 columns for a block, eight of its warps share the rows.
KERNEL(256) add_rows(float *y, const float *parts, int rows, int width) {
  __shared__ float scratch[8][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
  float sum = 0;
  if (column < width)
    for (int row = warp; row < rows; row += 8) sum += parts[(i64)row * width + column];
  scratch[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < width) {
    sum = 0;
    for (int i = 0; i < 8; i++) sum += scratch[i][lane];
    y[column] = sum;
  }
}
