// Copies of many float32 tensors in bfloat16, in one launch. A block does a piece of a tensor: `pieces` holds, for each
// block, the tensor in the low 24 bits and the piece above. A tensor's row: from, to, elements, whether eight at once can be
// accessed.

enum { THREADS = 256, EACH = 2, PIECE = THREADS * 8 * EACH };

KERNEL(256) narrow_many(const u64 *tensors, const u64 *pieces) {
  u64 word = pieces[blockIdx.x];
  const u64 *tensor = tensors + (word & 0xffffff) * 4;
  i64 first = (i64)(word >> 24) * PIECE, count = (i64)tensor[2] - first;
  if (count > PIECE) count = PIECE;
  const float *from = (const float *)tensor[0] + first;
  bf16 *to = (bf16 *)tensor[1] + first;
  i64 done = 0;
  if (tensor[3]) {
    Quad value[EACH][2];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      i64 i = (i64)(threadIdx.x + k * THREADS) * 8;
      if (i + 8 <= count) value[k][0] = *(const Quad *)(from + i), value[k][1] = *(const Quad *)(from + i + 4);
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      i64 i = (i64)(threadIdx.x + k * THREADS) * 8;
      Pair low, high;
      move(low, value[k][0]);
      move(high, value[k][1]);
      if (i + 8 <= count) *(Quad *)(to + i) = {low.x, low.y, high.x, high.y};
    }
    done = count / 8 * 8;
  }
  for (i64 i = done + threadIdx.x; i < count; i += THREADS) store(to + i, from[i]);
}
