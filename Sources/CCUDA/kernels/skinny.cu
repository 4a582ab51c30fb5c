// Products with a short side, such as an adapter's of low rank: their time is that of reading (and writing) the long
// matrix once. RANK, the short side, is a multiple of 8 up to 64; T0 is the result's type; operands are bfloat16. Sums are
// made in an order that the sizes set.

enum { TILES = RANK / 8, WHOLE = (RANK + 15) / 16 * 16 };

/// Eight elements as they lie in memory.
template <class T> struct Eight {
  Quad quads[sizeof(T) / 2];
};
DEVICE void take(float (&v)[8], const Eight<float> &e) { load8(v, (const float *)&e); }
DEVICE void take(float (&v)[8], const Eight<bf16> &e) { load8(v, (const bf16 *)&e); }
template <class T> DEVICE Eight<T> eight(const T *p) {
  Eight<T> e;
#pragma unroll
  for (int i = 0; i < (int)sizeof(T) / 2; i++) e.quads[i] = ((const Quad *)p)[i];
  return e;
}
DEVICE u32 word(const Quad &q, int i) { return i == 0 ? q.x : i == 1 ? q.y : i == 2 ? q.z : q.w; }

// MARK: [rows, RANK] times [RANK, columns], added to what is there
//
// A block has 128 rows and 256 columns, a warp 32 of the rows. Of 32 columns, eight neighbours are a thread's, which it
// reads and writes at once: columns of the tensor core's tiles in another order.

enum { ACROSS = 256, HEIGHT = WHOLE + 4 };

KERNEL(128)
from_rank(T0 *y, const T0 *added, const bf16 *x, const bf16 *b, int rows, int columns, float scale) {
  // b's columns, each with its RANK values together and zeros up to WHOLE.
  __shared__ __align__(16) bf16 kept[ACROSS][HEIGHT];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, t = lane % 4;
  const int start = blockIdx.x * ACROSS;
  const Quad none = {0, 0, 0, 0};
  Quad pieces[RANK / 4];
#pragma unroll
  for (int i = 0; i < RANK / 4; i++) {
    const int piece = i * 128 + threadIdx.x;
#ifdef TRANSPOSED
    const bool valid = start + piece / TILES < columns;
    pieces[i] = valid ? *(const Quad *)(b + (i64)start * RANK + piece * 8) : none;
#else
    const int column = start + piece / RANK * 8;
    pieces[i] = column < columns ? *(const Quad *)(b + (i64)(piece % RANK) * columns + column) : none;
#endif
  }
#pragma unroll
  for (int i = 0; i < RANK / 4; i++) {
    const int piece = i * 128 + threadIdx.x;
#ifdef TRANSPOSED
    bf16 *to = &kept[piece / TILES][piece % TILES * 8];
    *(Pair *)to = Pair{pieces[i].x, pieces[i].y};
    *(Pair *)(to + 4) = Pair{pieces[i].z, pieces[i].w};
#else
#pragma unroll
    for (int j = 0; j < 8; j++)
      kept[piece / RANK * 8 + j][piece % RANK] = bf16{(u16)(word(pieces[i], j / 2) >> j % 2 * 16)};
#endif
  }
  if (WHOLE > RANK)
    for (int i = threadIdx.x; i < ACROSS * 2; i += 128) *(Pair *)&kept[i / 2][RANK + i % 2 * 4] = Pair{0, 0};
  __syncthreads();
  for (int half = 0; half < 2; half++) {
    const int row = blockIdx.y * 128 + warp * 32 + half * 16 + group;
    u32 a[WHOLE / 16][4];
#pragma unroll
    for (int s = 0; s < WHOLE / 16; s++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        Pair p = {0, 0};
        if (row + e * 8 < rows && s * 16 + 4 * t < RANK) p = *(const Pair *)(x + (i64)(row + e * 8) * RANK + s * 16 + 4 * t);
        a[s][e] = p.x, a[s][e + 2] = p.y;
      }
#pragma unroll
    for (int part = 0; part < ACROSS; part += 128) {
      Eight<T0> old[4][2];
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int column = start + part + i * 32 + 8 * t;
          old[i][e] = {};
          if (added && row + e * 8 < rows && column < columns) old[i][e] = eight(added + (i64)(row + e * 8) * columns + column);
        }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float d[4][4] = {};
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const bf16 *column = kept[part + i * 32 + 8 * (group / 2) + 2 * j + group % 2];
#pragma unroll
          for (int s = 0; s < WHOLE / 16; s++) {
            const Pair p = *(const Pair *)(column + s * 16 + 4 * t);
            mma_bf16(d[j], a[s], p.x, p.y);
          }
        }
        const int column = start + part + i * 32 + 8 * t;
#pragma unroll
        for (int e = 0; e < 2; e++) {
          if (row + e * 8 >= rows || column >= columns) continue;
          float v[8];
          take(v, old[i][e]);
#pragma unroll
          for (int j = 0; j < 8; j++) v[j] = fmaf(d[j / 2][e * 2 + j % 2], scale, v[j]);
          store8(y + (i64)(row + e * 8) * columns + column, v);
        }
      }
    }
  }
}

// MARK: The transpose of [count, RANK] times [count, columns]
//
// A block has 64 columns and `each` of the rows, of which each warp takes every fourth 16; what blocks with other rows
// make of the same columns lies beside it in `parts` [gridDim.y, RANK, columns], for `finish`.

enum { STAGES = 4, STAGE = 2 * 64 * 128 };

KERNEL(128) along_rows(float *parts, const bf16 *narrow, const bf16 *wide, int count, int columns, int each) {
  SHARED_MEMORY(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, t = lane % 4;
  const int start = blockIdx.x * 64, first = blockIdx.y * each;
  const int end = first + each < count ? first + each : count, steps = (end - first + 63) / 64;
  float d[WHOLE / 16][8][4] = {};
  auto fetch = [&](int step) {
    if (step < steps) {
      u8 *stage = shared + step % STAGES * STAGE;
      const int row = first + step * 64;
      tile_load<64, 64, 128>(stage, wide + (i64)row * columns + start, columns, end - row);
      tile_load<64, WHOLE, 128, RANK>(stage + STAGE / 2, narrow + (i64)row * RANK, RANK, end - row);
    }
    copy_commit();
  };
  for (int step = 0; step < STAGES - 1; step++) fetch(step);
  for (int step = 0; step < steps; step++) {
    copy_wait<STAGES - 2>();
    // All have what they copied, and are done with the stage that is copied to next.
    __syncthreads();
    fetch(step + STAGES - 1);
    u8 *stage = shared + step % STAGES * STAGE;
    u32 a[WHOLE / 16][4];
#pragma unroll
    for (int m = 0; m < WHOLE / 16; m++)
      ldmatrix4_transposed(
          a[m], tile_piece<64>(stage + STAGE / 2, warp * 16 + lane % 8 + lane / 16 * 8, m * 16 + lane / 8 % 2 * 8));
#pragma unroll
    for (int j = 0; j < 4; j++) {
      u32 b[4];
      tile_b_as_is<64>(b, stage, warp * 16, j * 16);
#pragma unroll
      for (int m = 0; m < WHOLE / 16; m++) {
        mma_bf16(d[m][2 * j], a[m], b[0], b[1]);
        mma_bf16(d[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
  copy_wait<0>();
  __syncthreads();
  float *sums = (float *)shared;
#pragma unroll
  for (int m = 0; m < WHOLE / 16; m++)
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        sums[(warp * WHOLE + m * 16 + group + e / 2 * 8) * 64 + j * 8 + 2 * t + e % 2] = d[m][j][e];
  __syncthreads();
  for (int i = threadIdx.x; i < RANK * 64; i += 128) {
    float sum = 0;
#pragma unroll
    for (int part = 0; part < 4; part++) sum += sums[part * WHOLE * 64 + i];
    parts[((i64)blockIdx.y * RANK + i / 64) * columns + start + i % 64] = sum;
  }
}

/// y [RANK, columns], or where `turned` [columns, RANK], of its parts, one after another.
KERNEL(256) finish(T0 *y, const T0 *added, const float *parts, int columns, int count, int turned, float scale) {
  const int i = blockIdx.x * 256 + threadIdx.x, whole = RANK * columns;
  if (i >= whole) return;
  float sum = 0;
#pragma unroll 8
  for (int part = 0; part < count; part++) sum += parts[(i64)part * whole + i];
  const int to = turned ? i % columns * RANK + i / columns : i;
  sum *= scale;
  store(y + to, added ? sum + load(added + to) : sum);
}
