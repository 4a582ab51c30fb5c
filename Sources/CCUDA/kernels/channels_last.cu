// Turns [batch, channels, places] into bfloat16 [batch, places, whole] with the channels innermost, `whole` of them (a
// multiple of eight; those beyond the last are zeros), as the tiles of a convolution are loaded: both its operands in one
// launch. Defines: T0, T1 (their elements), TALL0, TALL1 (channels of a tile: 8, 16, 32 or 64).

enum { TILE = 4096, FEW = 16, MANY = 512 };

/// What one operand wants.
template <class T> struct Turn {
  bf16 *y;
  const T *x;
  int channels, whole;
  i64 places;
  /// Whether every row begins at a multiple of 16 bytes.
  bool is_even;
};

DEVICE void pack8(u32 (&to)[4], const float *p) {
  float low[4], high[4];
  load4(low, p), load4(high, p + 4);
  to[0] = pack_bf16(low[0], low[1]), to[1] = pack_bf16(low[2], low[3]);
  to[2] = pack_bf16(high[0], high[1]), to[3] = pack_bf16(high[2], high[3]);
}
DEVICE void pack8(u32 (&to)[4], const bf16 *p) {
  Quad q = *(const Quad *)p;
  to[0] = q.x, to[1] = q.y, to[2] = q.z, to[3] = q.w;
}

/// Tile number `block` of: tiles of places x tiles of channels x batch, places fastest.
template <int tall, class T> DEVICE void turn(u32 *tile, Turn<T> t, u32 block) {
  constexpr int wide = TILE / tall, width = wide + 2;  // an odd number of words: columns fall into different banks
  u32 across = (u32)((t.places + wide - 1) / wide), groups = (t.whole + tall - 1) / tall, rest = block / across;
  i64 p0 = (i64)(block % across) * wide, batch = rest / groups;
  int c0 = (int)(rest % groups) * tall;
  const T *x = t.x + batch * t.channels * t.places;
  bf16 *y = t.y + batch * t.places * t.whole;
  if (t.is_even) {
#pragma unroll
    for (int i = threadIdx.x; i < TILE / 8; i += 256) {
      int c = i / (wide / 8), p = i % (wide / 8) * 8;
      u32 v[4] = {};
      if (c0 + c < t.channels && p0 + p < t.places) pack8(v, x + (c0 + c) * t.places + p0 + p);
#pragma unroll
      for (int j = 0; j < 4; j++) tile[(c * width + p) / 2 + j] = v[j];
    }
  } else {
#pragma unroll 8
    for (int i = threadIdx.x; i < TILE; i += 256) {
      int c = i / wide, p = i % wide;
      bool is_there = c0 + c < t.channels && p0 + p < t.places;
      ((u16 *)tile)[c * width + p] = is_there ? round_bf16(load(x + (c0 + c) * t.places + p0 + p)) : 0;
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = threadIdx.x; i < TILE / 8; i += 256) {
    int c = i % (tall / 8) * 8, p = i / (tall / 8);
    if (c0 + c >= t.whole || p0 + p >= t.places) continue;
    u32 v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const u16 *at = (const u16 *)tile + (c + 2 * j) * width + p;
      v[j] = at[0] | (u32)at[width] << 16;
    }
    *(Quad *)(y + (p0 + p) * t.whole + c0 + c) = {v[0], v[1], v[2], v[3]};
  }
}

/// The same for at most 16 places, such as a weight's taps; tiles of 512 channels x batch, channels fastest.
template <class T> DEVICE void turn_few(u16 *tile, Turn<T> t, u32 block) {
  u32 groups = (t.whole + MANY - 1) / MANY, batch = block / groups;
  int c0 = block % groups * MANY, places = (int)t.places;
  int count = (t.channels - c0 < MANY ? t.channels - c0 : MANY) * places;
  const T *x = t.x + ((i64)batch * t.channels + c0) * places;
  bf16 *y = t.y + (i64)batch * places * t.whole + c0;
  int wanted = (t.whole - c0 < MANY ? t.whole - c0 : MANY) / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < wanted * 8 * places; i += 256) tile[i] = i < count ? round_bf16(load(x + i)) : 0;
  __syncthreads();
  for (int i = threadIdx.x; i < wanted * places; i += 256) {
    int c = i % wanted * 8, p = i / wanted;
    u32 v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const u16 *at = tile + (c + 2 * j) * places + p;
      v[j] = at[0] | (u32)at[places] << 16;
    }
    *(Quad *)(y + (i64)p * t.whole + c) = {v[0], v[1], v[2], v[3]};
  }
}

/// The first `blocks` blocks turn the first operand, the others the second.
KERNEL(256) channels_last(bf16 *y0, const T0 *x0, int channels0, int whole0, i64 places0, int is_even0, bf16 *y1,
                          const T1 *x1, int channels1, int whole1, i64 places1, int is_even1, int blocks) {
  __shared__ u32 tile[MANY * FEW / 2];
  if (blockIdx.x < (u32)blocks)
    turn<TALL0>(tile, Turn<T0>{y0, x0, channels0, whole0, places0, is_even0 != 0}, blockIdx.x);
  else if (places1 <= FEW)
    turn_few((u16 *)tile, Turn<T1>{y1, x1, channels1, whole1, places1, is_even1 != 0}, blockIdx.x - blocks);
  else
    turn<TALL1>(tile, Turn<T1>{y1, x1, channels1, whole1, places1, is_even1 != 0}, blockIdx.x - blocks);
}
