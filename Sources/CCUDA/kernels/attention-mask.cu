// What attention's kernels read of a mask [masks, n, m]: for each tile of 64 x 64 the bits of its rows and of its
// columns, and for each row of tiles, and each column, a list of those that allow anything. An entry is 2 tile + (1 if
// some of the tile is masked, or lies beyond the last key); a list begins with the number of its entries.

KERNEL(256) mask_tiles(const u8 *mask, u64 *row_bits, u64 *column_bits, u8 *kinds, int n, int m) {
  __shared__ u8 tile[64][68];
  __shared__ u64 rows[64];
  const int thread = threadIdx.x, first_row = blockIdx.y * 64, first_column = blockIdx.x * 64;
  const i64 plane = blockIdx.z;
  for (int i = thread; i < 64 * 64; i += 256) {
    int row = first_row + i / 64, column = first_column + i % 64;
    tile[i / 64][i % 64] = row < n && column < m && mask[(plane * n + row) * m + column] != 0;
  }
  __syncthreads();
  if (thread < 128) {
    const int line = thread % 64;
    const bool is_row = thread < 64;
    u64 bits = 0;
    for (int i = 0; i < 64; i++) bits |= (u64)(is_row ? tile[line][i] : tile[i][line]) << i;
    if (is_row) rows[line] = bits;
    if (is_row && first_row + line < n) row_bits[(plane * n + first_row + line) * gridDim.x + blockIdx.x] = bits;
    if (!is_row && first_column + line < m)
      column_bits[(plane * m + first_column + line) * gridDim.y + blockIdx.y] = bits;
  }
  __syncthreads();
  if (thread == 0) {
    u64 any = 0, all = ~0ull;
    for (int i = 0; i < 64 && first_row + i < n; i++) any |= rows[i], all &= rows[i];
    kinds[(plane * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = any == 0 ? 0 : all == ~0ull ? 2 : 1;
  }
}

/// A thread writes a list.
KERNEL(128)
mask_lists(const u8 *kinds, int *row_lists, int *column_lists, int masks, int row_tiles, int column_tiles) {
  const int list = blockIdx.x * 128 + threadIdx.x, rows = masks * row_tiles;
  if (list >= rows + masks * column_tiles) return;
  const bool is_row = list < rows;
  const int index = is_row ? list : list - rows, lines = is_row ? row_tiles : column_tiles;
  const int tiles = is_row ? column_tiles : row_tiles, step = is_row ? 1 : column_tiles;
  const u8 *kind = kinds + (i64)(index / lines) * row_tiles * column_tiles +
                   (i64)(index % lines) * (is_row ? column_tiles : 1);
  int *out = (is_row ? row_lists : column_lists) + (i64)index * (tiles + 1), count = 0;
  for (int i = 0; i < tiles; i++) {
    u8 k = kind[(i64)i * step];
    if (k != 0) out[++count] = 2 * i + (k == 1);
  }
  out[0] = count;
}
