// What attention's kernels read of a mask [masks, n, m]: for each tile of 64 x 64 the bits of its rows and of its
// columns and its kind (0: nothing is allowed, 2: everything, 1: else, or it has columns after the last), and for each
// row of tiles, each column, and each group of rows and of columns, a list of the tiles that allow anything.

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

/// A thread writes a list: the number of entries, then (tile << 2 g) + the kinds of the g tiles there. The lists of
/// rows, of columns, of groups of `row_group` rows, and of `column_group` columns follow each other.
KERNEL(128)
mask_lists(const u8 *kinds, int *lists, int masks, int row_tiles, int column_tiles, int row_group, int column_group) {
  int index = blockIdx.x * 128 + threadIdx.x;
  for (int part = 0; part < 4; part++) {
    const bool is_row = part % 2 == 0;
    const int lines = is_row ? row_tiles : column_tiles, tiles = is_row ? column_tiles : row_tiles;
    const int group = part < 2 ? 1 : is_row ? row_group : column_group, groups = (lines + group - 1) / group;
    if (index >= masks * groups) {
      index -= masks * groups, lists += (i64)masks * groups * (tiles + 1);
      continue;
    }
    const u8 *plane = kinds + (i64)(index / groups) * row_tiles * column_tiles;
    int *list = lists + (i64)index * (tiles + 1), count = 0;
    for (int tile = 0; tile < tiles; tile++) {
      int all = 0;
      for (int i = 0; i < group; i++) {
        const int line = index % groups * group + i;
        if (line < lines) all |= plane[is_row ? line * column_tiles + tile : tile * column_tiles + line] << 2 * i;
      }
      if (all != 0) list[++count] = (tile << 2 * group) + all;
    }
    list[0] = count;
    return;
  }
}
