// A step of a long short-term memory (Hochreiter & Schmidhuber 1997), forward and backward. The steps follow one another
// as launches, each of which reads the recurrent weight [4 units, units] once for QUAD rows of the batch.

enum { THREADS = 256, WARPS = THREADS / 32, QUAD = 4, GATES = 4 };

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/// A warp per unit and QUAD rows: x the step's share of the gates [batch, 4 units], h and c those before the step.
KERNEL(256)
lstm_step(float *h_out, float *c_out, float *gates, const float *x, const float *w, const float *h, const float *c,
          i64 batch, i64 units) {
  i64 unit = (i64)blockIdx.x * WARPS + threadIdx.x / 32, first = (i64)blockIdx.y * QUAD;
  if (unit >= units) return;
  u32 lane = threadIdx.x % 32;
  float sum[QUAD][GATES] = {};
  for (i64 r = lane; r < units; r += 32) {
    float weight[GATES];
#pragma unroll
    for (int k = 0; k < GATES; k++) weight[k] = w[(k * units + unit) * units + r];
#pragma unroll
    for (int b = 0; b < QUAD; b++) {
      float state = first + b < batch ? h[(first + b) * units + r] : 0;
#pragma unroll
      for (int k = 0; k < GATES; k++) sum[b][k] += weight[k] * state;
    }
  }
#pragma unroll
  for (int b = 0; b < QUAD; b++) {
#pragma unroll
    for (int k = 0; k < GATES; k++) sum[b][k] = warp_sum(sum[b][k]);
    if (lane != 0 || first + b >= batch) continue;
    i64 at = (first + b) * GATES * units + unit, place = (first + b) * units + unit;
    float i = sigmoid(x[at] + sum[b][0]), f = sigmoid(x[at + units] + sum[b][1]);
    float g = tanhf(x[at + 2 * units] + sum[b][2]), o = sigmoid(x[at + 3 * units] + sum[b][3]);
    float next = f * c[place] + i * g;
    gates[at] = i, gates[at + units] = f, gates[at + 2 * units] = g, gates[at + 3 * units] = o;
    c_out[place] = next, h_out[place] = o * tanhf(next);
  }
}

/// 32 units and QUAD rows a block. `after` holds the gradients of the gates of the step after, none for the last; dc is
/// what comes from it for c and is replaced by what goes on. Without `gates`, only dh is computed.
KERNEL(256)
lstm_step_back(float *d, float *dh, float *dc, const float *after, const float *w, const float *gh, const float *gc,
               const float *c, const float *before, const float *gates, i64 batch, i64 units) {
  __shared__ float kept[WARPS][QUAD][32];
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  i64 unit = (i64)blockIdx.x * 32 + lane, first = (i64)blockIdx.y * QUAD;
  float sum[QUAD] = {};
  if (after && unit < units)
    for (i64 r = warp; r < GATES * units; r += WARPS) {
      float weight = w[r * units + unit];
#pragma unroll
      for (int b = 0; b < QUAD; b++)
        if (first + b < batch) sum[b] += weight * after[(first + b) * GATES * units + r];
    }
#pragma unroll
  for (int b = 0; b < QUAD; b++) kept[warp][b][lane] = sum[b];
  __syncthreads();
  i64 row = first + warp;
  if (warp >= QUAD || row >= batch || unit >= units) return;
  float flow = 0;
#pragma unroll
  for (int k = 0; k < WARPS; k++) flow += kept[k][warp][lane];
  i64 place = row * units + unit, at = row * GATES * units + unit;
  if (!gates) {
    dh[place] = flow;
    return;
  }
  float i = gates[at], f = gates[at + units], g = gates[at + 2 * units], o = gates[at + 3 * units];
  float bent = tanhf(c[place]), h = gh[place] + flow;
  float state = gc[place] + (after ? dc[place] : 0) + h * o * (1 - bent * bent);
  d[at] = state * g * i * (1 - i);
  d[at + units] = state * before[place] * f * (1 - f);
  d[at + 2 * units] = state * i * (1 - g * g);
  d[at + 3 * units] = h * bent * o * (1 - o);
  dc[place] = state * f;
}
