// What follows `snake.cu`, for bfloat16, on the tensor cores: a warp has 16 stretches of SEGMENT samples, each a row of
// the left matrices. Sixteen samples times a matrix of taps give sixteen double-rate ones, which lie as the left matrix
// of the next product wants them; and two such give eight samples. Taps are kept as the sum of two bfloat16. What is near
// a row's ends (START samples before the first stretch, and what comes after the last) is left to single threads.

enum { SEGMENT = 64, START = 16, CHUNKS = SEGMENT / 8 + 1 };

/// A lane's share of a right matrix [16, 8].
struct Taps {
  u32 high[2], low[2];
};
template <class F> DEVICE void split_taps(Taps &taps, F tap) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int k = threadIdx.x % 4 * 2 + i * 8;
    const float a = tap(k), b = tap(k + 1);
    taps.high[i] = pack_bf16(a, b);
    taps.low[i] = pack_bf16(a - low_bf16(taps.high[i]), b - high_bf16(taps.high[i]));
  }
}
DEVICE void add_product(float (&d)[4], const u32 (&a)[4], const Taps &taps) {
  mma_bf16(d, a, taps.high[0], taps.high[1]);
  mma_bf16(d, a, taps.low[0], taps.low[1]);
}

/// The matrices of taps: to the double rate, its first and its last eight samples; and back, of the first and of the
/// last sixteen of the samples that eight at the single rate need.
struct Matrices {
  Taps up[2], down[2];
};
DEVICE void make_matrices(Matrices &m, const Filter &filter) {
  __shared__ float taps[12];
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < 12; i++) taps[i] = filter.down[i];
  }
  __syncthreads();
  const int n = threadIdx.x % 32 / 4;
#pragma unroll
  for (int part = 0; part < 2; part++) {
    const int at = part * 8 + n;
    split_taps(m.up[part], [&](int k) {
      // Double-rate sample `at` is of samples at / 2 + 1 + at % 2 and the five behind it.
      const int i = k - 1 - at / 2 - at % 2;
      return i >= 0 && i < 6 ? 2 * taps[11 - at % 2 - 2 * i] : 0.0f;
    });
    split_taps(m.down[part], [&](int k) {
      const int i = k - 3 - 2 * n + 16 * part;
      return i >= 0 && i < 12 ? taps[i] : 0.0f;
    });
  }
}

/// Eight samples of a lane's two rows, of which it has two each.
DEVICE void load_eight(u32 (&v)[2], const bf16 *const (&rows)[2], int at) {
#pragma unroll
  for (int r = 0; r < 2; r++) v[r] = *(const u32 *)(rows[r] + at);
}

/// Where a lane's two stretches begin, and whether they are there.
struct Stretches {
  i64 row[2];
  int t[2];
  bool is_there[2];
};
DEVICE Stretches stretches_of_lane(i64 block, i64 rows, int segments) {
  Stretches s;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    i64 id = (block * 4 + threadIdx.x / 32) * 16 + threadIdx.x % 32 / 4 + 8 * r;
    s.is_there[r] = id < rows * segments;
    if (!s.is_there[r]) id = 0;
    s.row[r] = id / segments;
    s.t[r] = START + (int)(id % segments) * SEGMENT;
  }
  return s;
}
/// Down from sixteen double-rate samples: those that the sixteen before began are whole with them, eight of a lane's two
/// rows, and go to memory, from `to` on; the next eight are begun. `out` are the sums of these.
DEVICE void go_down(float (&out)[4], const float (&fast)[2][4], const Matrices &m, bool is_whole, const Stretches &s,
                    bf16 *to, int length) {
  u32 left[1][4];
  pack_tiles(left, fast);
  add_product(out, left[0], m.down[1]);
  if (is_whole) {
#pragma unroll
    for (int r = 0; r < 2; r++)
      if (s.is_there[r]) *(u32 *)(to + s.row[r] * length + s.t[r]) = pack_bf16(out[2 * r], out[2 * r + 1]);
  }
#pragma unroll
  for (int e = 0; e < 4; e++) out[e] = 0;
  add_product(out, left[0], m.down[0]);
}
/// A thread's run near an end of a row; false when there is none.
DEVICE bool run_of_thread(i64 rows, int length, int segments, i64 &row, int &t, int &run) {
  const int runs = (length - segments * SEGMENT + RUN - 1) / RUN;
  const i64 id = (i64)blockIdx.x * 128 + threadIdx.x;
  row = id / runs, run = (int)(id % runs), t = run * RUN;
  if (t >= START) t += segments * SEGMENT;
  return row < rows;
}

/// The first `edges` blocks have the runs near the ends.
KERNEL(128) snake_tiles(bf16 *y, const bf16 *x, const float *alpha, const float *beta, i64 rows, int channels,
                        int length, int segments, int edges, int log_scale, FILTER_ARGUMENTS) {
  const Filter f = FILTER;
  if (blockIdx.x < edges) {
    i64 row;
    int t, run;
    if (!run_of_thread(rows, length, segments, row, t, run)) return;
    RATES;
    forward<true>(y + row * length, x + row * length, f, a, inverse, t, length);
    return;
  }
  Matrices m;
  make_matrices(m, f);
  const Stretches s = stretches_of_lane(blockIdx.x - edges, rows, segments);
  const int column = threadIdx.x % 4 * 2;
  // sin² is half of one less the cosine of the double; a sum begins with that half.
  float half[2], twice[2], offset[2];
  const bf16 *from[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const i64 row = s.row[r];
    RATES;
    half[r] = 0.5f * inverse, twice[r] = 2 * a, offset[r] = -twice[r] * half[r];
    from[r] = x + row * length + s.t[r] + column;
  }
  u32 before[2];
  load_eight(before, from, -8);
  float out[4] = {};
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    u32 next[2];
    load_eight(next, from, 8 * i);
    const u32 samples[4] = {before[0], before[1], next[0], next[1]};
    float u[2][4];
#pragma unroll
    for (int part = 0; part < 2; part++) {
#pragma unroll
      for (int e = 0; e < 4; e++) u[part][e] = half[e / 2];
      add_product(u[part], samples, m.up[part]);
#pragma unroll
      for (int e = 0; e < 4; e++)
        u[part][e] -= half[e / 2] * __cosf(fmaf(twice[e / 2], u[part][e], offset[e / 2]));
    }
    go_down(out, u, m, i > 0, s, y + 8 * (i - 1) + column, length);
    before[0] = next[0], before[1] = next[1];
  }
}

/// `sums` [rows, runs and segments, 2].
KERNEL(128) snake_back_tiles(bf16 *gx, float *sums, const bf16 *g, const bf16 *x, const float *alpha, const float *beta,
                             i64 rows, int channels, int length, int segments, int edges, int log_scale,
                             FILTER_ARGUMENTS) {
  const Filter f = FILTER;
  const int runs = (length - segments * SEGMENT + RUN - 1) / RUN;
  if (blockIdx.x < edges) {
    i64 row;
    int t, run;
    if (!run_of_thread(rows, length, segments, row, t, run)) return;
    RATES;
    float sum_a = 0, sum_b = 0;
    backward<true>(gx + row * length, g + row * length, x + row * length, f, a, inverse, t, length, sum_a, sum_b);
    sums += 2 * (row * (runs + segments) + run);
    sums[0] = sum_a, sums[1] = sum_b;
    return;
  }
  Matrices m;
  make_matrices(m, f);
  const Stretches s = stretches_of_lane(blockIdx.x - edges, rows, segments);
  const int column = threadIdx.x % 4 * 2;
  float twice[2], steep[2], sum_a[2] = {}, sum_b[2] = {};
  const bf16 *from[2], *flow_from[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const i64 row = s.row[r];
    RATES;
    twice[r] = 2 * a, steep[r] = a * inverse;
    const i64 at = row * length + s.t[r] + column;
    from[r] = x + at, flow_from[r] = g + at;
  }
  u32 before[2], flow_before[2];
  load_eight(before, from, -8);
  load_eight(flow_before, flow_from, -8);
  float out[4] = {};
#pragma unroll
  for (int i = 0; i < CHUNKS; i++) {
    u32 next[2], flow_next[2];
    load_eight(next, from, 8 * i);
    load_eight(flow_next, flow_from, 8 * i);
    const u32 samples[4] = {before[0], before[1], next[0], next[1]};
    const u32 flows[4] = {flow_before[0], flow_before[1], flow_next[0], flow_next[1]};
    float h[2][4];
#pragma unroll
    for (int part = 0; part < 2; part++) {
      // The gradient comes through the filter of the way up, so twice as large; the one of the way down takes it back.
      float u[4] = {}, flow[4] = {};
      add_product(u, samples, m.up[part]);
      add_product(flow, flows, m.up[part]);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float z = twice[e / 2] * u[e], steeper = flow[e] * __sinf(z);
        // Of a stretch's 16 samples before and after, others have the sums.
        if (part == 0 ? i > 0 : i + 1 < CHUNKS) {
          sum_a[e / 2] += steeper * u[e];
          sum_b[e / 2] += fmaf(-flow[e], __cosf(z), flow[e]);
        }
        h[part][e] = fmaf(steeper, steep[e / 2], flow[e]);
      }
    }
    go_down(out, h, m, i > 0, s, gx + 8 * (i - 1) + column, length);
    before[0] = next[0], before[1] = next[1];
    flow_before[0] = flow_next[0], flow_before[1] = flow_next[1];
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    for (int by = 1; by < 4; by *= 2) {
      sum_a[r] += __shfl_xor_sync(0xffffffffu, sum_a[r], by);
      sum_b[r] += __shfl_xor_sync(0xffffffffu, sum_b[r], by);
    }
    if (column != 0 || !s.is_there[r]) continue;
    float *to = sums + 2 * (s.row[r] * (runs + segments) + runs + (s.t[r] - START) / SEGMENT);
    to[0] = 0.5f * sum_a[r], to[1] = 0.25f * sum_b[r];
  }
}
