// Hopper's products of a warpgroup, m64nNk16 of bfloat16 (PTX ISA 9.0, section 9.7.15.5): done where they are begun, so
// that an operand overwritten before the wait is no error here, but one read before a barrier is a race.
#pragma once

/// The 16-bit element `k`, `line` of a matrix in panels swizzled by 128 bytes: `line` counts rows or columns of the
/// product; `as_is` when a row in memory holds lines at one k, else a line's ks.
inline unsigned shim_matrix_element(unsigned long long matrix, unsigned k, unsigned line, bool as_is) {
  if (matrix >> 62 != 1) shim_fail("wgmma: a matrix without the swizzle of 128 bytes");
  const size_t start = (matrix & 0x3fff) * 16, panel = (matrix >> 16 & 0x3fff) * 16;
  const size_t eight = (matrix >> 32 & 0x3fff) * 16;
  const unsigned row = as_is ? k : line, column = as_is ? line : k;
  size_t at = start + row / 8 * eight + row % 8 * 128 + column * 2 % 128;
  if (as_is && column >= 64) at += panel;
  at ^= (at >> 7 & 7) << 4;
  unsigned short bits;
  __builtin_memcpy(&bits, (const char *)shim_shared_memory() + at, sizeof bits);
  return bits;
}
/// d [64, n] = (`fresh`) or += a b; a from the lanes' registers, or from a matrix.
inline void shim_wgmma(
    float *d, int n, bool fresh, const unsigned *a, unsigned long long matrix_a, unsigned long long matrix_b,
    bool as_is) {
  unsigned mine[4] = {a ? a[0] : 0, a ? a[1] : 0, a ? a[2] : 0, a ? a[3] : 0};
  const unsigned char *all = shim_exchange(mine, sizeof mine, 0xffffffffu, a ? -20 : -21, true);
  const unsigned lane = shim_lane(), warp = shim_here()->thread.x / 32 % 4;
  float left[2][16];
  for (unsigned r = 0; r < 2; r++)
    for (unsigned k = 0; k < 16; k++) {
      unsigned word, row = lane / 4;
      __builtin_memcpy(&word, all + (row * 4 + k % 8 / 2) * shim_stride + 4 * (r + k / 8 * 2), 4);
      left[r][k] = a ? shim_bf16(k % 2 ? word >> 16 : word & 0xffff)
                     : shim_bf16(shim_matrix_element(matrix_a, k, warp * 16 + row + 8 * r, false));
    }
  for (int tile = 0; tile < n / 8; tile++)
    for (unsigned e = 0; e < 2; e++) {
      const unsigned column = tile * 8 + lane % 4 * 2 + e;
      double sums[2] = {};
      for (unsigned k = 0; k < 16; k++) {
        const double right = shim_bf16(shim_matrix_element(matrix_b, k, column, as_is));
        sums[0] += left[0][k] * right, sums[1] += left[1][k] * right;
      }
      for (unsigned r = 0; r < 2; r++) {
        float &to = d[tile * 4 + 2 * r + e];
        to = (float)(sums[r] + (fresh ? 0 : to));
      }
    }
}
