// Turns [batch, channels, places] into bfloat16 [batch, places, whole] with the channels innermost, `whole` of them (a
// multiple of eight; those beyond the last are zeros), as the tiles of a convolution are loaded. Defines: T0 (elements),
// VECTORS (every row begins at a multiple of 16 bytes), TALL (channels of a tile: 8, 16, 32 or 64).

enum { PLACES = 4096 / TALL, WIDTH = PLACES + 2 };  // an odd number of words, so that columns fall into different banks

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

/// Blocks: tiles of places x tiles of channels x batch, places fastest.
KERNEL(256) channels_last(bf16 *y, const T0 *x, int channels, int whole, i64 places) {
  __shared__ u32 tile[TALL * WIDTH / 2];
  i64 across = (places + PLACES - 1) / PLACES, p0 = blockIdx.x % across * PLACES;
  int groups = (whole + TALL - 1) / TALL;
  i64 rest = blockIdx.x / across, batch = rest / groups;
  int c0 = (int)(rest % groups) * TALL;
  x += batch * channels * places, y += batch * places * whole;
  if (VECTORS) {
#pragma unroll
    for (int i = threadIdx.x; i < TALL * PLACES / 8; i += 256) {
      int c = i / (PLACES / 8), p = i % (PLACES / 8) * 8;
      u32 v[4] = {};
      if (c0 + c < channels && p0 + p < places) pack8(v, x + (c0 + c) * places + p0 + p);
#pragma unroll
      for (int j = 0; j < 4; j++) tile[(c * WIDTH + p) / 2 + j] = v[j];
    }
  } else {
#pragma unroll 4
    for (int i = threadIdx.x; i < TALL * PLACES; i += 256) {
      int c = i / PLACES, p = i % PLACES;
      bool is_there = c0 + c < channels && p0 + p < places;
      ((u16 *)tile)[c * WIDTH + p] = is_there ? round_bf16(load(x + (c0 + c) * places + p0 + p)) : 0;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < TALL / 8 * PLACES; i += 256) {
    int c = i % (TALL / 8) * 8, p = i / (TALL / 8);
    if (c0 + c >= whole || p0 + p >= places) continue;
    u32 v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const u16 *at = (const u16 *)tile + (c + 2 * j) * WIDTH + p;
      v[j] = at[0] | (u32)at[WIDTH] << 16;
    }
    *(Quad *)(y + (p0 + p) * whole + c0 + c) = {v[0], v[1], v[2], v[3]};
  }
}

/// The same for at most 16 places, such as a weight's taps: blocks (tiles of 512 channels, batch).
KERNEL(256) few_channels_last(bf16 *y, const T0 *x, int channels, int whole, int places) {
  enum { MANY = 512 };
  __shared__ u16 tile[MANY * 16];
  int c0 = blockIdx.x * MANY, count = (channels - c0 < MANY ? channels - c0 : MANY) * places;
  x += ((i64)blockIdx.y * channels + c0) * places, y += (i64)blockIdx.y * places * whole + c0;
  int wanted = (whole - c0 < MANY ? whole - c0 : MANY) / 8;
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
    *(Quad *)(y + (i64)p * whole + c) = {v[0], v[1], v[2], v[3]};
  }
}
