// Elements moved to where they belong, whatever they mean. IN and OUT are what one access moves: up to 16 bytes of
// elements of one type, or up to four of float32 one way and bfloat16 the other way. All counts are in such units. I is
// an integer that holds every index of a result.

/// Accesses of a thread, all under way before the first is used.
enum { EACH = 4, THREADS = 256 };

/// The first of the thread's units; the others follow at distances of THREADS.
DEVICE I first_unit() { return (I)blockIdx.x * (EACH * THREADS) + threadIdx.x; }
/// The thread's units to their places in a result.
DEVICE void put_units(OUT *y, const IN (&value)[EACH], I first, i64 count) {
#pragma unroll
  for (int k = 0; k < EACH; k++)
    if (first + k * THREADS < count) move(y[first + k * THREADS], value[k]);
}

/// `axes` holds the length of each axis of the result, outermost first, and the input's stride along it.
KERNEL(256) copy_strided(OUT *y, const IN *x, const i64 *axes, int rank, i64 count) {
  I first = first_unit(), rest[EACH];
  i64 from[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) rest[k] = first + k * THREADS, from[k] = 0;
  for (int axis = rank - 1; axis > 0; axis--) {
    I length = (I)axes[2 * axis];
    i64 stride = axes[2 * axis + 1];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      I outer = rest[k] / length;
      from[k] += (i64)(rest[k] - outer * length) * stride;
      rest[k] = outer;
    }
  }
  IN value[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++)
    if (first + k * THREADS < count) value[k] = x[from[k] + (i64)rest[k] * axes[1]];
  put_units(y, value, first, count);
}

/// `pieces` holds each input's address, where it starts in a row of the result, and its length there; together they are
/// `width` long, from `start` of rows of `total`.
KERNEL(256) concatenate(OUT *y, const u64 *pieces, int number, i64 width, i64 total, i64 start, i64 count) {
  I first = first_unit();
  IN value[EACH];
  i64 to[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    I i = first + k * THREADS;
    if (i >= count) continue;
    I row = i / (I)width, at = i - row * (I)width;
    int low = 0, high = number - 1;
    while (low < high) {
      int middle = (low + high + 1) / 2;
      if ((I)pieces[3 * middle + 1] <= at) low = middle;
      else high = middle - 1;
    }
    value[k] = ((const IN *)pieces[3 * low])[(i64)row * (i64)pieces[3 * low + 2] + at - (i64)pieces[3 * low + 1]];
    to[k] = (i64)row * total + start + at;
  }
#pragma unroll
  for (int k = 0; k < EACH; k++)
    if (first + k * THREADS < count) move(y[to[k]], value[k]);
}

/// Rows of `run` go into rows of `total`, `place` times `step` from their start; no further than `last`.
KERNEL(256) put_rows(OUT *y, const IN *x, const int *place, i64 step, i64 last, i64 run, i64 total, i64 count) {
  I first = first_unit();
  i64 start = place[0] < 0 ? 0 : place[0] > last ? last : place[0];
  IN value[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++)
    if (first + k * THREADS < count) value[k] = x[first + k * THREADS];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    I i = first + k * THREADS;
    if (i >= count) continue;
    I row = i / (I)run;
    move(y[(i64)row * total + start * step + (i64)(i - row * (I)run)], value[k]);
  }
}

/// Where position `i` of a row with a pad of `before` takes its element from; negative for a zero. As Pad.Mode numbers
/// the modes.
DEVICE i64 pad_origin(i64 i, i64 before, i64 length, int mode) {
  i64 j = i - before;
  if (j >= 0 && j < length) return j;
  if (mode == 0) return -1;
  if (mode == 1) return j < 0 ? 0 : length - 1;
  if (mode == 3) return j < 0 ? j + length : j - length;
  return j < 0 ? -j : 2 * (length - 1) - j;
}

KERNEL(256) pad(OUT *y, const IN *x, i64 length, i64 before, i64 wide, int mode, i64 count) {
  I first = first_unit();
  IN value[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    I i = first + k * THREADS;
    if (i >= count) continue;
    I row = i / (I)wide;
    i64 from = pad_origin((i64)(i - row * (I)wide), before, length, mode);
    value[k] = from < 0 ? IN{} : x[(i64)row * length + from];
  }
  put_units(y, value, first, count);
}

/// Frames of `window`, `frames` of each row of `length`, `hop` apart.
KERNEL(256) frame(OUT *y, const IN *x, i64 length, i64 frames, i64 window, i64 hop, i64 count) {
  I first = first_unit();
  IN value[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    I i = first + k * THREADS;
    if (i >= count) continue;
    I unit = i / (I)window, row = unit / (I)frames;
    value[k] = x[(i64)row * length + (i64)(unit - row * (I)frames) * hop + (i - unit * (I)window)];
  }
  put_units(y, value, first, count);
}

/// Rows of a table of `rows`; zeros for an index outside it.
KERNEL(256) gather(OUT *y, const IN *table, const int *index, i64 rows, i64 width, i64 count) {
  I first = first_unit();
  IN value[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    I i = first + k * THREADS;
    if (i >= count) continue;
    I row = i / (I)width;
    i64 from = index[row];
    value[k] = from < 0 || from >= rows ? IN{} : table[from * (i64)width + (i - row * (I)width)];
  }
  put_units(y, value, first, count);
}
