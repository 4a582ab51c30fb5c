// Convolutions of every geometry as matrix products: the rows are channels, and the second factor is gathered from the
// image where it is needed. Defines: MODE 0 (the convolution), 1 (its transpose in x), 2 (its gradient in the weight);
// T0, T1, T2 (elements of the gathered operand, of the other, of the result); TILE_M; MMA 1 (tensor cores) or 0; INDEX
// (u32 where it counts the result's columns and a sum's terms, else u64).

enum { THREADS = 256, WARPS = THREADS / 32 };
#if MMA
enum { TILE_N = 128, TILE_K = 32 };
#else
enum { TILE_N = 4096 / TILE_M, TILE_K = TILE_N > 256 ? 8 : 16 };
#endif

/// An image [batch, channels, height, width] and its convolution [batch, outputs, rows, columns].
struct Shape {
  int batch, channels, height, width, outputs, rows, columns;
  int taps_y, taps_x, stride_y, stride_x, pad_y, pad_x, gap_y, gap_x, groups, splits;
};

/// A term of the sums: where it is in the first factor, and its part of the place in the image.
struct Term {
  i64 a, b;
  int y, x;
};
/// A column of the result: its part of the place in the image.
struct Column {
  i64 b;
  int y, x;
};

/// Far from every image.
enum { NOWHERE = -(1 << 30) };

struct Sizes {
  i64 m, n, terms, stride_a, group_a, group_b;
};

DEVICE Sizes sizes(const Shape &s) {
  i64 in = s.channels / s.groups, out = s.outputs / s.groups, taps = s.taps_y * s.taps_x;
  i64 image = (i64)s.height * s.width, result = (i64)s.rows * s.columns;
#if MODE == 0
  return {out, s.batch * result, in * taps, in * taps, out * in * taps, in * image};
#elif MODE == 1
  return {in, s.batch * image, out * taps, taps, out * in * taps, out * result};
#else
  return {out, in * taps, s.batch * result, result, out * result, in * image};
#endif
}

DEVICE Term term_of(const Shape &s, i64 k, i64 terms) {
  if (k >= terms) return {-1, 0, NOWHERE, NOWHERE};
#if MODE == 2
  i64 image = (i64)s.height * s.width, result = (i64)s.rows * s.columns;
  i64 b = (INDEX)k / (INDEX)result;
  int p = (int)((INDEX)k % (INDEX)result);
  return {b * s.outputs * result + p, b * s.channels * image, p / s.columns * s.stride_y - s.pad_y,
          p % s.columns * s.stride_x - s.pad_x};
#else
  int taps = s.taps_y * s.taps_x, c = (int)((INDEX)k / taps), tap = (int)((INDEX)k % taps);
  int y = tap / s.taps_x * s.gap_y, x = tap % s.taps_x * s.gap_x;
#if MODE == 0
  return {k, (i64)c * s.height * s.width, y, x};
#else
  return {(i64)c * (s.channels / s.groups) * taps + tap, (i64)c * s.rows * s.columns, -y, -x};
#endif
#endif
}

DEVICE Column column_of(const Shape &s, i64 n, i64 count) {
  if (n >= count) return {0, NOWHERE, NOWHERE};
  i64 image = (i64)s.height * s.width;
#if MODE == 0
  i64 result = (i64)s.rows * s.columns;
  int p = (int)((INDEX)n % (INDEX)result);
  return {(i64)((INDEX)n / (INDEX)result) * s.channels * image, p / s.columns * s.stride_y - s.pad_y,
          p % s.columns * s.stride_x - s.pad_x};
#elif MODE == 1
  int p = (int)((INDEX)n % (INDEX)image);
  return {(i64)((INDEX)n / (INDEX)image) * s.outputs * s.rows * s.columns, p / s.width + s.pad_y, p % s.width + s.pad_x};
#else
  int taps = s.taps_y * s.taps_x, tap = (int)((INDEX)n % taps);
  return {(i64)((INDEX)n / taps) * image, tap / s.taps_x * s.gap_y, tap % s.taps_x * s.gap_x};
#endif
}

/// The image at the place that both parts give, zero outside.
DEVICE float gather(const Shape &s, const T0 *b, const Term &t, const Column &c) {
  int y = t.y + c.y, x = t.x + c.x;
#if MODE == 1
  if (y < 0 || x < 0) return 0;
  int row = y / s.stride_y, column = x / s.stride_x;
  if (row * s.stride_y != y || column * s.stride_x != x || row >= s.rows || column >= s.columns) return 0;
  return load(b + t.b + c.b + (i64)row * s.columns + column);
#else
  if ((u32)y >= (u32)s.height || (u32)x >= (u32)s.width) return 0;
  return load(b + t.b + c.b + (i64)y * s.width + x);
#endif
}

/// Where element (m, n) of the group's result lies.
DEVICE i64 place(const Shape &s, const Sizes &z, int group, i64 m, i64 n) {
#if MODE == 2
  return (group * z.m + m) * z.n + n;
#else
  i64 area = MODE == 0 ? (i64)s.rows * s.columns : (i64)s.height * s.width;
  i64 channels = MODE == 0 ? s.outputs : s.channels;
  return ((i64)((INDEX)n / (INDEX)area) * channels + group * z.m + m) * area + (INDEX)n % (INDEX)area;
#endif
}

#if MMA
enum { ACROSS = TILE_M >= 64 ? 2 : 1, WARP_M = TILE_M / ACROSS, WARP_N = TILE_N * ACROSS / WARPS };
enum { STRIDE_A = TILE_K + 8, STRIDE_B = TILE_N + 8 };  // in elements; rows of a matrix fall into different banks

/// What a thread carries from memory to the tiles: pairs of terms of the first factor, pairs of columns of the second.
struct Carried {
  u32 a[TILE_M * TILE_K / 2 / THREADS], b[TILE_K * TILE_N / 2 / THREADS];
};
struct Tiles {
  u16 a[TILE_M * STRIDE_A], b[TILE_K * STRIDE_B];
};
enum { COLUMNS = 2 };
DEVICE int carried_column(int i) { return threadIdx.x % (TILE_N / 2) * 2 + i; }

DEVICE void fetch(Carried &r, const Shape &s, const Sizes &z, const T1 *a, const T0 *b, const Term *terms,
                  const Column (&columns)[COLUMNS], i64 m0) {
#pragma unroll
  for (int i = 0; i < TILE_M * TILE_K / 2 / THREADS; i++) {
    int e = threadIdx.x + i * THREADS, k = e % (TILE_K / 2) * 2;
    i64 m = m0 + e / (TILE_K / 2);
    i64 p = terms[k].a, q = terms[k + 1].a;
    float low = m < z.m && p >= 0 ? load(a + p + m * z.stride_a) : 0.0f;
    float high = m < z.m && q >= 0 ? load(a + q + m * z.stride_a) : 0.0f;
    r.a[i] = pack_bf16(low, high);
  }
#pragma unroll
  for (int i = 0; i < TILE_K * TILE_N / 2 / THREADS; i++) {
    const Term &t = terms[threadIdx.x / (TILE_N / 2) + i * (THREADS * 2 / TILE_N)];
    r.b[i] = pack_bf16(gather(s, b, t, columns[0]), gather(s, b, t, columns[1]));
  }
}

DEVICE void put(Tiles &t, const Carried &r) {
#pragma unroll
  for (int i = 0; i < TILE_M * TILE_K / 2 / THREADS; i++) {
    int e = threadIdx.x + i * THREADS;
    *(u32 *)&t.a[e / (TILE_K / 2) * STRIDE_A + e % (TILE_K / 2) * 2] = r.a[i];
  }
#pragma unroll
  for (int i = 0; i < TILE_K * TILE_N / 2 / THREADS; i++)
    *(u32 *)&t.b[(threadIdx.x / (TILE_N / 2) + i * (THREADS * 2 / TILE_N)) * STRIDE_B + carried_column(0)] = r.b[i];
}

struct Sums {
  float d[WARP_M / 16][WARP_N / 8][4];
};

DEVICE void multiply(Sums &sums, const Tiles &t) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int m0 = warp % ACROSS * WARP_M, n0 = warp / ACROSS * WARP_N;
#pragma unroll
  for (int k = 0; k < TILE_K; k += 16) {
    u32 b[WARP_N / 8][2];
#pragma unroll
    for (int j = 0; j < WARP_N / 16; j++) {
      u32 r[4];
      ldmatrix4_transposed(r, &t.b[(k + lane % 16) * STRIDE_B + n0 + j * 16 + lane / 16 * 8]);
      b[2 * j][0] = r[0], b[2 * j][1] = r[1], b[2 * j + 1][0] = r[2], b[2 * j + 1][1] = r[3];
    }
#pragma unroll
    for (int i = 0; i < WARP_M / 16; i++) {
      u32 r[4];
      ldmatrix4(r, &t.a[(m0 + i * 16 + lane % 16) * STRIDE_A + k + lane / 16 * 8]);
#pragma unroll
      for (int j = 0; j < WARP_N / 8; j++) mma_bf16(sums.d[i][j], r, b[j][0], b[j][1]);
    }
  }
}

/// Calls `give(m, n, sum)` for every element that the thread has.
template <class Give> DEVICE void each(const Sums &sums, Give give) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int m0 = warp % ACROSS * WARP_M + lane / 4, n0 = warp / ACROSS * WARP_N + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < WARP_M / 16; i++)
#pragma unroll
    for (int j = 0; j < WARP_N / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) give(m0 + i * 16 + e / 2 * 8, n0 + j * 8 + e % 2, sums.d[i][j][e]);
}
#else
struct Carried {
  float a[(TILE_M * TILE_K + THREADS - 1) / THREADS], b[TILE_K * TILE_N / THREADS];
};
struct alignas(16) Tiles {
  float a[TILE_K * TILE_M], b[TILE_K * TILE_N];
};
enum { COLUMNS = TILE_N > THREADS ? TILE_N / THREADS : 1 };
DEVICE int carried_column(int i) { return threadIdx.x % TILE_N + i * THREADS; }
DEVICE int carried_term(int i) { return (threadIdx.x + i * THREADS) / TILE_N; }

DEVICE void fetch(Carried &r, const Shape &s, const Sizes &z, const T1 *a, const T0 *b, const Term *terms,
                  const Column (&columns)[COLUMNS], i64 m0) {
#pragma unroll
  for (int i = 0; i < (TILE_M * TILE_K + THREADS - 1) / THREADS; i++) {
    int e = threadIdx.x + i * THREADS;
    i64 m = m0 + e / TILE_K, p = terms[e % TILE_K].a;
    r.a[i] = e < TILE_M * TILE_K && m < z.m && p >= 0 ? load(a + p + m * z.stride_a) : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < TILE_K * TILE_N / THREADS; i++)
    r.b[i] = gather(s, b, terms[carried_term(i)], columns[i % COLUMNS]);
}

DEVICE void put(Tiles &t, const Carried &r) {
#pragma unroll
  for (int i = 0; i < (TILE_M * TILE_K + THREADS - 1) / THREADS; i++) {
    int e = threadIdx.x + i * THREADS;
    if (e < TILE_M * TILE_K) t.a[e % TILE_K * TILE_M + e / TILE_K] = r.a[i];
  }
#pragma unroll
  for (int i = 0; i < TILE_K * TILE_N / THREADS; i++)
    t.b[carried_term(i) * TILE_N + carried_column(i % COLUMNS)] = r.b[i];
}

struct Sums {
  float d[4][4];
};

DEVICE void multiply(Sums &sums, const Tiles &t) {
  int m0 = threadIdx.x / (TILE_N / 4) * 4, n0 = threadIdx.x % (TILE_N / 4) * 4;
#pragma unroll
  for (int k = 0; k < TILE_K; k++) {
    float a[4], b[4];
    load4(a, &t.a[k * TILE_M + m0]);
    load4(b, &t.b[k * TILE_N + n0]);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) sums.d[i][j] += a[i] * b[j];
  }
}

template <class Give> DEVICE void each(const Sums &sums, Give give) {
  int m0 = threadIdx.x / (TILE_N / 4) * 4, n0 = threadIdx.x % (TILE_N / 4) * 4;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) give(m0 + i, n0 + j, sums.d[i][j]);
}
#endif

/// Blocks: (tiles of n, tiles of m, groups x splits). With several splits, the sums of each go to `parts`.
KERNEL(THREADS) convolution(T2 *y, float *parts, const T0 *b, const T1 *a, int batch, int channels, int height,
                            int width, int outputs, int rows, int columns, int taps_y, int taps_x, int stride_y,
                            int stride_x, int pad_y, int pad_x, int gap_y, int gap_x, int groups, int splits) {
  Shape s = {batch,    channels, height, width, outputs, rows,  columns, taps_y, taps_x,
             stride_y, stride_x, pad_y,  pad_x, gap_y,   gap_x, groups,  splits};
  Sizes z = sizes(s);
  __shared__ Tiles tiles;
  __shared__ Term terms[TILE_K];
  int group = blockIdx.z / splits, split = blockIdx.z % splits;
  i64 m0 = (i64)blockIdx.y * TILE_M, n0 = (i64)blockIdx.x * TILE_N;
  i64 all = (z.terms + TILE_K - 1) / TILE_K, share = (all + splits - 1) / splits;
  i64 first = split * share, last = first + share < all ? first + share : all;
  a += group * z.group_a, b += group * z.group_b;
  Column own[COLUMNS];
#pragma unroll
  for (int i = 0; i < COLUMNS; i++) own[i] = column_of(s, n0 + carried_column(i), z.n);
  Carried carried;
  Sums sums = {};
  if (first < last) {
    if (threadIdx.x < TILE_K) terms[threadIdx.x] = term_of(s, first * TILE_K + threadIdx.x, z.terms);
    __syncthreads();
    fetch(carried, s, z, a, b, terms, own, m0);
    __syncthreads();
  }
  for (i64 tile = first; tile < last; tile++) {
    put(tiles, carried);
    if (threadIdx.x < TILE_K) terms[threadIdx.x] = term_of(s, (tile + 1) * TILE_K + threadIdx.x, z.terms);
    __syncthreads();
    // The next tile's elements travel while this one is multiplied.
    if (tile + 1 < last) fetch(carried, s, z, a, b, terms, own, m0);
    multiply(sums, tiles);
    __syncthreads();
  }
  i64 count = z.m * z.n * groups;
  each(sums, [&](int i, int j, float sum) {
    i64 m = m0 + i, n = n0 + j;
    if (m >= z.m || n >= z.n) return;
    i64 at = place(s, z, group, m, n);
    if (splits > 1)
      parts[split * count + at] = sum;
    else
      store(y + at, sum);
  });
}
