// Maxima of windows of planes, and samples between samples. KEY is the type of the keys, T0 of what is moved or added,
// T1 the result's. I is an integer that holds every index.

enum { THREADS = 256 };

struct Windows {
  i64 height, width, rows, columns, window_rows, window_columns, stride_row, stride_column, padding_row, padding_column;
};

/// `sizes` holds the fields of Windows in their order.
DEVICE Windows windows_of(const i64 *sizes) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8], sizes[9]};
}

/// The place in its plane of the largest key of the window of output (r, c): of equals the first, and NaN wins.
DEVICE i64 largest_key(const Windows &s, const KEY *keys, i64 r, i64 c) {
  i64 top = r * s.stride_row - s.padding_row, left = c * s.stride_column - s.padding_column, best = -1;
  float most = 0;
  for (i64 i = top < 0 ? 0 : top; i < top + s.window_rows && i < s.height; i++)
    for (i64 j = left < 0 ? 0 : left; j < left + s.window_columns && j < s.width; j++) {
      float key = load(keys + i * s.width + j);
      if (best < 0 || key > most || (key != key && most == most)) best = i * s.width + j, most = key;
    }
  return best;
}

KERNEL(256) window_take(T1 *y, const KEY *keys, const T0 *x, const i64 *sizes, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  Windows s = windows_of(sizes);
  I line = (I)i / (I)s.columns, above = line / (I)s.rows;
  i64 c = (I)i - line * (I)s.columns, r = line - above * (I)s.rows, plane = (i64)above * s.height * s.width;
  store(y + i, load(x + plane + largest_key(s, keys + plane, r, c)));
}

/// The places, for `window_put`.
KERNEL(256) window_places(i64 *places, const KEY *keys, const i64 *sizes, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  Windows s = windows_of(sizes);
  I line = (I)i / (I)s.columns, above = line / (I)s.rows;
  i64 c = (I)i - line * (I)s.columns, r = line - above * (I)s.rows, plane = (i64)above * s.height * s.width;
  places[i] = largest_key(s, keys + plane, r, c);
}

/// Each element of the planes from the windows over it, in order.
KERNEL(256) window_put(T1 *y, const i64 *places, const T0 *g, const i64 *sizes, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  Windows s = windows_of(sizes);
  I line = (I)i / (I)s.width, above = line / (I)s.height;
  i64 at = i - (i64)above * s.height * s.width, plane = (i64)above * s.rows * s.columns;
  i64 row = line - above * (I)s.height + s.padding_row, column = i - (i64)line * s.width + s.padding_column;
  i64 r0 = row < s.window_rows ? 0 : (I)(row - s.window_rows) / (I)s.stride_row + 1, r1 = (I)row / (I)s.stride_row;
  i64 c0 = column < s.window_columns ? 0 : (I)(column - s.window_columns) / (I)s.stride_column + 1;
  i64 c1 = (I)column / (I)s.stride_column;
  float sum = 0;
  for (i64 r = r0; r <= r1 && r < s.rows; r++)
    for (i64 c = c0; c <= c1 && c < s.columns; c++) {
      i64 window = plane + r * s.columns + c;
      if (places[window] == at) sum += load(g + window);
    }
  store(y + i, sum);
}

/// x [outer, from, inner] to y [outer, to, inner]. `table` holds, for each of the `to`: the two samples that it is
/// between (the second in the upper half), and the bits of how far it is from the first.
KERNEL(256) resample(T1 *y, const T0 *x, const u64 *table, i64 from, i64 to, i64 inner, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  I line = (I)i / (I)inner, above = line / (I)to, k = line - above * (I)to;
  i64 column = i - (i64)line * inner, outer = (i64)above * from;
  u64 pair = table[2 * k];
  float share = __uint_as_float((u32)table[2 * k + 1]);
  float a = load(x + (outer + (i64)(pair & 0xffffffffu)) * inner + column);
  float b = load(x + (outer + (i64)(pair >> 32)) * inner + column);
  store(y + i, a + (b - a) * share);
}

/// Its transpose, y [outer, from, inner] of g [outer, to, inner]. `table` as there, and `starts` [from + 2] the first of
/// the `to` whose first sample is at least n - 1.
KERNEL(256)
resample_back(T1 *y, const T0 *g, const u64 *table, const u64 *starts, i64 from, i64 to, i64 inner, i64 count) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  I line = (I)i / (I)inner, above = line / (I)from, n = line - above * (I)from;
  i64 column = i - (i64)line * inner, outer = (i64)above * to;
  float sum = 0;
  for (u64 k = starts[n]; k < starts[n + 2]; k++) {
    u64 pair = table[2 * k];
    float share = __uint_as_float((u32)table[2 * k + 1]), flow = load(g + (outer + (i64)k) * inner + column);
    if ((I)(pair & 0xffffffffu) == n) sum += flow * (1 - share);
    if ((I)(pair >> 32) == n) sum += flow * share;
  }
  store(y + i, sum);
}
