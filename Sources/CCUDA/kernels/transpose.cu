// Copies whose innermost axis isn't the input's: through a tile of shared memory, so that both sides are accessed along
// their own rows. `deep` elements lie together in the input and are `y_step` apart in the result; `wide` elements lie
// together in the result and are `x_step` apart in the input. `axes` holds the other axes, outermost first: length,
// input's stride, result's stride.

enum { SIDE = 64, THREADS = 256, WARPS = THREADS / 32 };

struct Tile {
  i64 x, y, deep, wide;
};

/// The block's tile: where it begins, in both memories and along both axes.
DEVICE Tile tile_of(const i64 *axes, int others, i64 deep, i64 wide, i64 x_step, i64 y_step) {
  i64 across = (wide + SIDE - 1) / SIDE, down = (deep + SIDE - 1) / SIDE, unit = blockIdx.x;
  Tile tile;
  tile.wide = unit % across * SIDE;
  unit /= across;
  tile.deep = unit % down * SIDE;
  unit /= down;
  tile.x = tile.deep + tile.wide * x_step, tile.y = tile.wide + tile.deep * y_step;
  for (int axis = others - 1; axis >= 0; axis--) {
    i64 i = unit % axes[3 * axis];
    unit /= axes[3 * axis];
    tile.x += i * axes[3 * axis + 1], tile.y += i * axes[3 * axis + 2];
  }
  return tile;
}

KERNEL(256)
transpose(OUT *y, const IN *x, const i64 *axes, int others, i64 deep, i64 wide, i64 x_step, i64 y_step) {
  __shared__ IN kept[SIDE][SIDE + 1];
  Tile tile = tile_of(axes, others, deep, wide, x_step, y_step);
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  IN value[SIDE / WARPS][2] = {};
#pragma unroll
  for (u32 k = 0; k < SIDE / WARPS; k++)
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      u32 i = warp + k * WARPS, d = lane + 32 * half;
      if (tile.wide + i < wide && tile.deep + d < deep) value[k][half] = x[tile.x + i * x_step + d];
    }
#pragma unroll
  for (u32 k = 0; k < SIDE / WARPS; k++)
#pragma unroll
    for (u32 half = 0; half < 2; half++) kept[lane + 32 * half][warp + k * WARPS] = value[k][half];
  __syncthreads();
#pragma unroll
  for (u32 k = 0; k < SIDE / WARPS; k++)
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      u32 d = warp + k * WARPS, i = lane + 32 * half;
      if (tile.wide + i < wide && tile.deep + d < deep) move(y[tile.y + d * y_step + i], kept[d][i]);
    }
}

#ifdef HALVES
/// The same for 16-bit elements, two at a time on both sides: all lengths and steps are even.
KERNEL(256)
transpose_halves(u32 *y, const u32 *x, const i64 *axes, int others, i64 deep, i64 wide, i64 x_step, i64 y_step) {
  // A pair that follows in the input, by its place in the result's row.
  __shared__ u32 kept[SIDE / 2][SIDE + 1];
  Tile tile = tile_of(axes, others, deep, wide, x_step, y_step);
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  bool inside = tile.deep + 2 * lane < deep;
  u32 value[SIDE / WARPS];
#pragma unroll
  for (u32 k = 0; k < SIDE / WARPS; k++) {
    u32 i = warp + k * WARPS;
    value[k] = inside && tile.wide + i < wide ? x[(tile.x + i * x_step) / 2 + lane] : 0;
  }
#pragma unroll
  for (u32 k = 0; k < SIDE / WARPS; k++) kept[lane][warp + k * WARPS] = value[k];
  __syncthreads();
#pragma unroll
  for (u32 k = 0; k < SIDE / 2 / WARPS; k++) {
    u32 d = warp + k * WARPS, low = kept[d][2 * lane], high = kept[d][2 * lane + 1];
    if (tile.wide + 2 * lane >= wide || tile.deep + 2 * d >= deep) continue;
    i64 to = (tile.y + 2 * d * y_step) / 2 + lane;
    y[to] = (low & 0xffff) | high << 16;
    y[to + y_step / 2] = low >> 16 | (high & 0xffff0000u);
  }
}
#endif
