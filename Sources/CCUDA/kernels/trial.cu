// Operands for trials of products, and whether two results have the same bits.

enum { THREADS = 256 };

/// Numbers scattered well by their index (the finaliser of MurmurHash3 by A. Appleby, public domain).
DEVICE u32 scatter(u32 h) {
  h = (h ^ h >> 16) * 0x85ebca6bu;
  h = (h ^ h >> 13) * 0xc2b2ae35u;
  return h ^ h >> 16;
}

/// Fills [.., rows, columns] with numbers of many sizes. A product's sums run along the columns, or where `down` along the
/// rows, over k numbers: what stands at j + half is what stands at j, negated where `negate`, and what follows is small.
/// So products cancel, and what is left of a sum is its roundings, which tell one order of summation from another.
KERNEL(256) fill(T0 *x, i64 count, i64 rows, i64 columns, int down, i64 half, int negate, u32 seed, float scale) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  i64 column = i % columns, row = i / columns % rows, item = i / columns / rows;
  i64 at = down ? row : column, other = down ? column : row;
  bool again = at >= half && at < 2 * half;
  u32 h = scatter((u32)(again ? at - half : at) + seed);
  h = scatter(h + (u32)other);
  h = scatter(h + (u32)item);
  // Sizes from 1/4 to 32.
  float value = __uint_as_float((h & 0x807fffffu) | (125 + (h >> 23 & 7)) << 23);
  if (again && negate) value = -value;
  if (half > 0 && at >= 2 * half) value *= 1.0f / 65536;
  store(x + i, value * scale);
}

/// For each block, how many of its threads saw a difference.
KERNEL(256) differ(float *seen, const u32 *a, const u32 *b, i64 words) {
  __shared__ float scratch[THREADS / 32];
  bool differs = false;
  for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < words; i += (i64)gridDim.x * THREADS) differs |= a[i] != b[i];
  float sum = block_sum(differs ? 1.0f : 0.0f, scratch);
  if (threadIdx.x == 0) seen[blockIdx.x] = sum;
}
