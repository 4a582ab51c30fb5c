// One step of AdamW (Loshchilov & Hutter 2019) over many tensors, and the sum of their gradients' squares. A block does
// a piece of a tensor: `pieces` holds, for each block, the tensor in the low 24 bits and the piece above. Arithmetic as
// on the CPU.

enum { THREADS = 256, EACH = 4, PIECE = THREADS * 4 * EACH, SQUARES = THREADS * 32 };

/// What a row of the table of tensors holds.
enum {
  PARAMETER, FIRST, SECOND, GRADIENT, SCALARS, NEW_PARAMETER, NEW_FIRST, NEW_SECOND,
  COUNT,
  /// 1: the gradient is bfloat16; 2: four elements at once can be accessed everywhere.
  FLAGS,
  FIELDS
};

struct Rates {
  float keep, step, root, factor, beta1, beta2, epsilon;
};

DEVICE void adamw_element(const Rates &r, float &p, float g, float &m, float &v) {
  g *= r.factor;
  m = m + (1.0f - r.beta1) * (g - m);
  v = r.beta2 * v + (1.0f - r.beta2) * g * g;
  p = p * r.keep - r.step * m / (sqrtf(v) * r.root + r.epsilon);
}

KERNEL(256)
adamw_many(const u64 *tensors, const u64 *pieces, float beta1, float beta2, float epsilon, float decay) {
  u64 word = pieces[blockIdx.x];
  const u64 *tensor = tensors + (word & 0xffffff) * FIELDS;
  i64 count = (i64)tensor[COUNT], first = (i64)(word >> 24) * PIECE;
  i64 end = first + PIECE < count ? first + PIECE : count;
  const float *scalars = (const float *)tensor[SCALARS];
  Rates r = {1.0f - scalars[0] * decay, scalars[0] / scalars[1], 1.0f / sqrtf(scalars[2]), scalars[3], beta1, beta2,
             epsilon};
  const float *p_in = (const float *)tensor[PARAMETER], *m_in = (const float *)tensor[FIRST];
  const float *v_in = (const float *)tensor[SECOND];
  float *p_out = (float *)tensor[NEW_PARAMETER], *m_out = (float *)tensor[NEW_FIRST];
  float *v_out = (float *)tensor[NEW_SECOND];
  const float *g_float = (const float *)tensor[GRADIENT];
  const bf16 *g_half = (const bf16 *)tensor[GRADIENT];
  bool is_half = tensor[FLAGS] & 1;
  i64 done = first;
  if (tensor[FLAGS] & 2) {
#pragma unroll 2
    for (i64 i = first + 4 * threadIdx.x; i + 4 <= end; i += 4 * THREADS) {
      float p[4], g[4], m[4], v[4];
      load4(p, p_in + i);
      load4(m, m_in + i);
      load4(v, v_in + i);
      if (is_half) load4(g, g_half + i);
      else load4(g, g_float + i);
#pragma unroll
      for (int j = 0; j < 4; j++) adamw_element(r, p[j], g[j], m[j], v[j]);
      store4(p_out + i, p);
      store4(m_out + i, m);
      store4(v_out + i, v);
    }
    done = first + (end - first) / 4 * 4;
  }
  for (i64 i = done + threadIdx.x; i < end; i += THREADS) {
    float p = p_in[i], m = m_in[i], v = v_in[i];
    adamw_element(r, p, is_half ? load(g_half + i) : g_float[i], m, v);
    p_out[i] = p, m_out[i] = m, v_out[i] = v;
  }
}

/// The sum of the squares of 16 bytes of elements.
DEVICE float squares(const Quad &q, float) {
  float a = __uint_as_float(q.x), b = __uint_as_float(q.y), c = __uint_as_float(q.z), d = __uint_as_float(q.w);
  return (a * a + b * b) + (c * c + d * d);
}
DEVICE float squares(const Quad &q, bf16) {
  const u32 pairs[4] = {q.x, q.y, q.z, q.w};
  float sum = 0;
#pragma unroll
  for (int k = 0; k < 4; k++) sum += low_bf16(pairs[k]) * low_bf16(pairs[k]) + high_bf16(pairs[k]) * high_bf16(pairs[k]);
  return sum;
}

/// A thread's share of the sum over `count` elements, at most SQUARES: all of its reads are under way at once.
template <class T> DEVICE float share_of_squares(const T *g, i64 count, bool wide) {
  const int width = 16 / sizeof(T), reads = SQUARES / THREADS / width;
  float sum = 0;
  i64 done = 0;
  if (wide) {
    Quad value[reads] = {};
#pragma unroll
    for (int k = 0; k < reads; k++) {
      i64 i = (i64)(threadIdx.x + k * THREADS) * width;
      if (i + width <= count) value[k] = *(const Quad *)(g + i);
    }
#pragma unroll
    for (int k = 0; k < reads; k++) sum += squares(value[k], T{});
    done = count / width * width;
  }
  for (i64 i = done + threadIdx.x; i < count; i += THREADS) sum += load(g + i) * load(g + i);
  return sum;
}

/// The sums of squares of pieces of SQUARES. A tensor's row here: address, elements, and flags: 1, it is bfloat16; 2, 16
/// bytes at once can be read.
KERNEL(256) squares_many(float *sums, const u64 *tensors, const u64 *pieces) {
  __shared__ float scratch[THREADS / 32];
  u64 word = pieces[blockIdx.x];
  const u64 *tensor = tensors + (word & 0xffffff) * 3;
  i64 first = (i64)(word >> 24) * SQUARES, count = (i64)tensor[1] - first;
  if (count > SQUARES) count = SQUARES;
  bool wide = tensor[2] & 2;
  float sum = tensor[2] & 1 ? share_of_squares((const bf16 *)tensor[0] + first, count, wide)
                            : share_of_squares((const float *)tensor[0] + first, count, wide);
  float total = block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

/// The sums of each tensor's pieces: tensor i's are those from firsts[i] to firsts[i + 1]. A block per tensor.
KERNEL(256) squares_finish(float *const *totals, const float *sums, const u64 *firsts) {
  __shared__ float scratch[THREADS / 32];
  float sum = 0;
  for (u64 i = firsts[blockIdx.x] + threadIdx.x; i < firsts[blockIdx.x + 1]; i += THREADS) sum += sums[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *totals[blockIdx.x] = sum;
}
