// A stand-in for cuBLASLt: naive products of matrices in column-major order, with the checks that the library makes.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))
extern "C" int shim_enqueue(void *stream, std::function<void()> action);
extern "C" bool shim_is_device(unsigned long long address, size_t bytes);
extern "C" void shim_pass(int milliseconds);

// cublasStatus_t, cudaDataType_t, cublasComputeType_t
enum { success = 0, invalidValue = 7, notSupported = 15 };
enum { float32 = 0, float16 = 2, bfloat16 = 14 };
enum { computeFloat = 68, computeTensorFloat = 77 };

struct Description {
  int compute, scale, transposeA = 0, transposeB = 0, epilogue = 1, biasType = float32;
  uint64_t bias = 0;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  int order = 0, batch = 1;
  int64_t stride = 0;

  size_t size() const { return type == float32 ? 4 : 2; }
  size_t bytes() const {
    return ((size_t)(batch - 1) * (size_t)stride + (columns - 1) * (size_t)leading + rows) * size();
  }
  float read(uint64_t base, uint64_t row, uint64_t column, int item) const {
    size_t at = (size_t)item * (size_t)stride + column * (size_t)leading + row;
    float x;
    if (type == float32) {
      memcpy(&x, (float *)base + at, 4);
      return x;
    }
    uint32_t bits = (uint32_t)((uint16_t *)base)[at] << 16;
    memcpy(&x, &bits, 4);
    return x;
  }
  void write(uint64_t base, uint64_t row, uint64_t column, int item, float x) const {
    size_t at = (size_t)item * (size_t)stride + column * (size_t)leading + row;
    if (type == float32) {
      ((float *)base)[at] = x;
      return;
    }
    uint32_t bits;
    memcpy(&bits, &x, 4);
    ((uint16_t *)base)[at] =
        x != x ? (uint16_t)(bits >> 16 | 0x40) : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
/// cublasLtMatmulHeuristicResult_t. The algorithm here is what was promised, alignments and workspace, and which of the
/// algorithms it is.
struct Choice {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

EXPORT size_t cublasLtGetVersion() { return 130000; }
EXPORT int cublasLtCreate(void **handle) {
  static int one;
  *handle = &one;
  return success;
}
EXPORT int cublasLtDestroy(void *) { return success; }
EXPORT int cublasLtMatmulDescCreate(void **desc, int compute, int scale) {
  if (scale != float32 || (compute != computeFloat && compute != computeTensorFloat)) return invalidValue;
  *desc = new Description{compute, scale};
  return success;
}
EXPORT int cublasLtMatmulDescDestroy(void *desc) {
  delete (Description *)desc;
  return success;
}
template <class T> static int take(T &field, const void *value, size_t bytes) {
  if (bytes != sizeof(T)) return invalidValue;
  memcpy(&field, value, sizeof(T));
  return success;
}
EXPORT int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value, size_t bytes) {
  Description *d = (Description *)desc;
  switch (attribute) {
    case 3: return take(d->transposeA, value, bytes);
    case 4: return take(d->transposeB, value, bytes);
    case 7: return take(d->epilogue, value, bytes);
    case 8: return take(d->bias, value, bytes);
    case 26: return take(d->biasType, value, bytes);
    default: return invalidValue;
  }
}
EXPORT int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (type != float32 && type != bfloat16) return notSupported;
  *layout = new Layout{type, rows, columns, leading};
  return success;
}
EXPORT int cublasLtMatrixLayoutDestroy(void *layout) {
  delete (Layout *)layout;
  return success;
}
EXPORT int cublasLtMatrixLayoutSetAttribute(void *layout, int attribute, const void *value, size_t bytes) {
  Layout *l = (Layout *)layout;
  switch (attribute) {
    case 5: return take(l->batch, value, bytes);
    case 6: return take(l->stride, value, bytes);
    default: return invalidValue;
  }
}
EXPORT int cublasLtMatmulPreferenceCreate(void **preference) {
  *preference = new Preference;
  return success;
}
EXPORT int cublasLtMatmulPreferenceDestroy(void *preference) {
  delete (Preference *)preference;
  return success;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t bytes) {
  Preference *p = (Preference *)preference;
  if (attribute == 1) return take(p->workspace, value, bytes);
  if (attribute >= 5 && attribute <= 8) return take(p->alignment[attribute - 5], value, bytes);
  return invalidValue;
}

/// The algorithms, the one first that the heuristic holds for the fastest.
enum Algorithm { inOrder, inHalves, inOrderFast, inOrderSlow, refused, algorithms };
/// What a product of some size takes by each.
static const int milliseconds[algorithms] = {400, 100, 200, 600, 0};
static const uint64_t someSize = 1 << 20;
static long made[algorithms];
/// How many products were made by an algorithm, for tests.
EXPORT long shim_products(int algorithm) { return made[algorithm]; }

/// Whether the shapes and types go together.
static int check(const Description &d, const Layout &a, const Layout &b, const Layout &c, const Layout &to) {
  for (const Layout *l : {&a, &b, &c, &to})
    if (!l->rows || !l->columns || l->leading < (int64_t)l->rows || l->batch != to.batch) return invalidValue;
  uint64_t m = d.transposeA ? a.columns : a.rows, k = d.transposeA ? a.rows : a.columns;
  uint64_t inner = d.transposeB ? b.columns : b.rows, n = d.transposeB ? b.rows : b.columns;
  if (m != to.rows || n != to.columns || k != inner || c.rows != m || c.columns != n) return invalidValue;
  if (a.type != b.type || c.type != to.type || (a.type == float32 && to.type != float32)) return notSupported;
  // CUBLASLT_EPILOGUE_DEFAULT, _BIAS
  return d.epilogue == 1 || (d.epilogue == 4 && d.bias) ? success : notSupported;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(
    void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted, Choice *choices,
    int *found) {
  *found = 0;
  if (!handle || wanted < 1) return invalidValue;
  int status = check(*(Description *)desc, *(Layout *)a, *(Layout *)b, *(Layout *)c, *(Layout *)d);
  if (status) return status;
  Preference *p = (Preference *)preference;
  for (; *found < wanted && *found < algorithms; ++*found) {
    Choice &choice = choices[*found];
    memset(&choice, 0, sizeof choice);
    for (int i = 0; i < 4; i++) choice.algorithm[i] = p->alignment[i];
    choice.algorithm[4] = choice.workspace = p->workspace < 1024 ? p->workspace : 1024;
    choice.algorithm[5] = (uint64_t)*found;
  }
  return success;
}

EXPORT int cublasLtMatmul(
    void *handle, void *desc, const void *alpha, uint64_t a, void *la, uint64_t b, void *lb, const void *beta,
    uint64_t c, void *lc, uint64_t d, void *ld, const void *algorithm, uint64_t workspace, size_t bytes, void *stream) {
  if (!handle || !alpha || !beta) return invalidValue;
  const Description e = *(Description *)desc;
  const Layout A = *(Layout *)la, B = *(Layout *)lb, C = *(Layout *)lc, D = *(Layout *)ld;
  int status = check(e, A, B, C, D);
  if (status) return status;
  float scale, keep;
  memcpy(&scale, alpha, 4), memcpy(&keep, beta, 4);
  if (!shim_is_device(a, A.bytes()) || !shim_is_device(b, B.bytes()) || !shim_is_device(d, D.bytes())) return invalidValue;
  if (keep != 0 && !shim_is_device(c, C.bytes())) return invalidValue;
  uint64_t way = inOrder;
  if (algorithm) {
    uint64_t promised[6], addresses[4] = {a, b, c, d};
    memcpy(promised, algorithm, sizeof promised);
    for (int i = 0; i < 4; i++)
      if (promised[i] && addresses[i] % promised[i]) return invalidValue;
    way = promised[5];
    if (way >= refused) return notSupported;
    if (bytes < promised[4] || (promised[4] && !shim_is_device(workspace, bytes))) return invalidValue;
  }
  return shim_enqueue(stream, [=] {
    // Parts of an algorithm may use all of what they are given.
    if (workspace) memset((void *)workspace, 0xff, bytes < 4096 ? bytes : 4096);
    uint64_t m = D.rows, n = D.columns, inner = e.transposeA ? A.rows : A.columns;
    made[way]++;
    if (m * n * inner * (uint64_t)D.batch >= someSize) shim_pass(milliseconds[way]);
    std::vector<float> row(inner);
    for (int item = 0; item < D.batch; item++)
      for (uint64_t i = 0; i < m; i++) {
        for (uint64_t k = 0; k < inner; k++) row[k] = e.transposeA ? A.read(a, k, i, item) : A.read(a, i, k, item);
        for (uint64_t j = 0; j < n; j++) {
          double sum = 0;
          float half[2] = {0, 0};
          for (uint64_t k = 0; k < inner; k++) {
            double product = (double)row[k] * (e.transposeB ? B.read(b, j, k, item) : B.read(b, k, j, item));
            sum += product;
            half[k >= inner / 2] += (float)product;
          }
          if (way == inHalves) sum = half[0] + half[1];
          sum *= scale;
          if (keep != 0) sum += (double)keep * C.read(c, i, j, item);
          if (e.epilogue == 4) sum += Layout{e.biasType, m, 1, (int64_t)m}.read(e.bias, i, 0, 0);
          D.write(d, i, j, item, (float)sum);
        }
      }
  });
}
