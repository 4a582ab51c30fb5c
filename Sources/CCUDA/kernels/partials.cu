// The last step of sums whose parts lie in memory, in an order that depends on the sizes only.

/// y[0] = the sum of `parts` numbers, by one block.
KERNEL(256) add_parts(float *y, const float *parts, int count, int) {
  __shared__ float scratch[8];
  float sum = 0;
  for (int i = threadIdx.x; i < count; i += 256) sum += parts[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *y = sum;
}

/// y[j] = the sum of parts[i, j] over `rows` rows: 32 columns for a block, whose warps share the rows, so that a thread's
/// few reads are all under way at once.
KERNEL(1024) add_rows(float *y, const float *parts, int rows, int width) {
  __shared__ float scratch[32][33];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * 32;
  float sum = 0;
  if (first + lane < width) {
#pragma unroll 16
    for (int row = warp; row < rows; row += 32) sum += parts[(i64)row * width + first + lane];
  }
  scratch[warp][lane] = sum;
  __syncthreads();
  sum = warp_sum(scratch[lane][warp]);
  if (lane == 0 && first + warp < width) y[first + warp] = sum;
}
