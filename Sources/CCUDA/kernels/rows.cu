// Functions of rows of `width`. GROUP threads share a row: 32, or the block's 256. T0 is the input's type, T1 the
// result's; WIDE is whether four elements at once can be accessed.

enum { THREADS = 256, ROWS = THREADS / GROUP };

#if GROUP == 32
DEVICE float group_sum(float x, float *) { return warp_sum(x); }
DEVICE float group_max(float x, float *) { return warp_max(x); }
#else
DEVICE float group_sum(float x, float *scratch) { return block_sum(x, scratch); }
DEVICE float group_max(float x, float *scratch) { return block_max(x, scratch); }
#endif

#ifdef WIDE
enum { LANE = 4 };
DEVICE void take(float (&v)[LANE], const T0 *x) { load4(v, x); }
DEVICE void give(T1 *y, const float (&v)[LANE]) { store4(y, v); }
#else
enum { LANE = 1 };
DEVICE void take(float (&v)[LANE], const T0 *x) { v[0] = load(x); }
DEVICE void give(T1 *y, const float (&v)[LANE]) { store(y, v[0]); }
#endif

#define EACH_OF_ROW for (i64 i = threadIdx.x % GROUP * LANE; i < width; i += GROUP * LANE)
#define EACH_LANE _Pragma("unroll") for (int j = 0; j < LANE; j++)

/// The result may lie in the input's place: an element is written by the thread that read it last.
KERNEL(256) softmax(T1 *y, const T0 *x, i64 rows, i64 width) {
  __shared__ float scratch[THREADS / 32];
  i64 row = (i64)blockIdx.x * ROWS + threadIdx.x / GROUP;
  if (row >= rows) return;
  x += row * width, y += row * width;
  float top = -INFINITY;
#pragma unroll 4
  EACH_OF_ROW {
    float v[LANE];
    take(v, x + i);
    EACH_LANE top = larger(v[j], top);
  }
  top = group_max(top, scratch);
  float sum = 0;
#pragma unroll 4
  EACH_OF_ROW {
    float v[LANE];
    take(v, x + i);
    EACH_LANE sum += expf(v[j] - top);
  }
  float scale = 1.0f / group_sum(sum, scratch);
#pragma unroll 4
  EACH_OF_ROW {
    float v[LANE];
    take(v, x + i);
    EACH_LANE v[j] = expf(v[j] - top) * scale;
    give(y + i, v);
  }
}

KERNEL(256) rms_normalize(T1 *y, float *scales, const T0 *x, i64 rows, i64 width, float epsilon) {
  __shared__ float scratch[THREADS / 32];
  i64 row = (i64)blockIdx.x * ROWS + threadIdx.x / GROUP;
  if (row >= rows) return;
  x += row * width, y += row * width;
  float sum = 0;
#pragma unroll 4
  EACH_OF_ROW {
    float v[LANE];
    take(v, x + i);
    EACH_LANE sum += v[j] * v[j];
  }
  float scale = 1.0f / sqrtf(group_sum(sum, scratch) / (float)width + epsilon);
  if (threadIdx.x % GROUP == 0) scales[row] = scale;
#pragma unroll 4
  EACH_OF_ROW {
    float v[LANE];
    take(v, x + i);
    EACH_LANE v[j] *= scale;
    give(y + i, v);
  }
}
