// Philox4x32-10 (Salmon et al., SC 2011), a block of four words per four numbers, the same words as on the CPU.

/// cos and sin of `turns`, in [0, 1): of the angle left after whole quarters, |r| <= pi / 4, by Taylor's polynomials.
DEVICE void wave(float turns, float &c, float &s) {
  float quarters = rintf(4.0f * turns), r = (turns - 0.25f * quarters) * 6.28318530717958648f, z = r * r;
  float p = r + r * z * (-1.66666667e-1f + z * (8.33333333e-3f + z * (-1.98412698e-4f + z * 2.75573192e-6f)));
  float q = 1.0f + z * (-0.5f + z * (4.16666667e-2f + z * (-1.38888889e-3f + z * 2.48015873e-5f)));
  int quarter = (int)quarters;
  c = quarter & 1 ? p : q, s = quarter & 1 ? q : p;
  if ((quarter + 1) & 2) c = -c;
  if (quarter & 2) s = -s;
}

KERNEL(256) draw(float *y, const int *key, u32 stream, int normal, i64 count) {
  i64 block = (i64)blockIdx.x * 256 + threadIdx.x;
  if (4 * block >= count) return;
  u32 c[4] = {(u32)block, 0, stream, (u32)key[1]}, k0 = (u32)key[0], k1 = 0;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    u64 a = (u64)0xD2511F53u * c[0], b = (u64)0xCD9E8D57u * c[2];
    u32 n0 = (u32)(b >> 32) ^ c[1] ^ k0, n2 = (u32)(a >> 32) ^ c[3] ^ k1;
    c[0] = n0, c[1] = (u32)b, c[2] = n2, c[3] = (u32)a;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  const float unit = 5.9604644775390625e-8f;  // 2^-24
  float out[4];
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    float a = (float)(c[i] >> 8), b = (float)(c[i + 1] >> 8) * unit;
    out[i] = a * unit, out[i + 1] = b;
    if (normal) {
      float radius = sqrtf(-2.0f * logf((a + 1.0f) * unit));
      wave(b, out[i], out[i + 1]);
      out[i] *= radius, out[i + 1] *= radius;
    }
  }
  if (4 * block + 4 <= count && (u64)y % 16 == 0) {
    store4(y + 4 * block, out);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (4 * block + i < count) y[4 * block + i] = out[i];
}
