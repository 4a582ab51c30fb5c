// Samples between interleaved bytes and one array a channel, and the pairs that stereo is kept as.
#include "codec.h"

FLOW_CLONES void flow_take_apart(const uint8_t *source, size_t frames, unsigned channels, unsigned width,
                                   unsigned channel, unsigned shift, int32_t *restrict to) {
  if (width == 2 && channels == 1) {
    for (size_t i = 0; i < frames; i++) to[i] = (int16_t)(source[2 * i] | source[2 * i + 1] << 8) >> shift;
  } else if (width == 2 && channels == 2) {
    const uint8_t *p = source + 2 * channel;
    for (size_t i = 0; i < frames; i++) to[i] = (int16_t)(p[4 * i] | p[4 * i + 1] << 8) >> shift;
  } else {
    size_t stride = (size_t)channels * width;
    const uint8_t *p = source + (size_t)channel * width;
    for (size_t i = 0; i < frames; i++, p += stride) {
      uint32_t x = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (width == 3 ? (uint32_t)p[2] << 16 : 0);
      to[i] = flow_wrap(x, 8 * width) >> shift;
    }
  }
}

FLOW_CLONES void flow_put_together(const int32_t *restrict from, size_t frames, unsigned channels, unsigned width,
                                     unsigned channel, unsigned shift, uint8_t *restrict target) {
  if (width == 2) {
    size_t stride = (size_t)channels * 2;
    uint8_t *p = target + 2 * (size_t)channel;
    for (size_t i = 0; i < frames; i++) {
      uint16_t x = (uint16_t)((uint32_t)from[i] << shift);
      p[i * stride] = (uint8_t)x;
      p[i * stride + 1] = (uint8_t)(x >> 8);
    }
  } else {
    size_t stride = (size_t)channels * 3;
    uint8_t *p = target + 3 * (size_t)channel;
    for (size_t i = 0; i < frames; i++) {
      uint32_t x = (uint32_t)from[i] << shift;
      p[i * stride] = (uint8_t)x;
      p[i * stride + 1] = (uint8_t)(x >> 8);
      p[i * stride + 2] = (uint8_t)(x >> 16);
    }
  }
}

FLOW_CLONES unsigned flow_zero_bits(const uint8_t *source, size_t bytes, unsigned width) {
  uint8_t any[3] = {0, 0, 0};
  if (width == 2) {
    for (size_t i = 0; i < bytes / 2; i++) {
      any[0] |= source[2 * i];
      any[1] |= source[2 * i + 1];
    }
  } else {
    for (size_t i = 0; i < bytes / 3; i++) {
      for (size_t b = 0; b < 3; b++) any[b] |= source[3 * i + b];
    }
  }
  uint32_t all = (uint32_t)any[0] | (uint32_t)any[1] << 8 | (uint32_t)any[2] << 16;
  return all ? (unsigned)__builtin_ctz(all) : 0;
}

FLOW_CLONES void flow_middle_and_side(const int32_t *l, const int32_t *r, size_t count, unsigned bits, int32_t *m,
                                        int32_t *s) {
  for (size_t i = 0; i < count; i++) {
    s[i] = flow_wrap((uint32_t)l[i] - (uint32_t)r[i], bits);
    m[i] = flow_wrap((uint32_t)r[i] + (uint32_t)(s[i] >> 1), bits);
  }
}

FLOW_CLONES void flow_left_and_right(unsigned pair, int32_t *a, int32_t *b, size_t count, unsigned bits) {
  for (size_t i = 0; i < count; i++) {
    uint32_t x = (uint32_t)a[i], y = (uint32_t)b[i];
    if (pair == LEFT_SIDE) y = x - y;
    if (pair == SIDE_RIGHT) x += y;
    if (pair == MIDDLE_SIDE) {
      uint32_t right = x - (uint32_t)(flow_wrap(y, bits) >> 1);
      x = right + y;
      y = right;
    }
    a[i] = (int32_t)x;
    b[i] = (int32_t)y;
  }
}

const uint8_t flow_pair_members[4][2] = {{0, 1}, {0, 3}, {3, 1}, {2, 3}};

unsigned flow_best_pair(const uint64_t sums[4]) {
  // Bits go with the logarithm of the sums, so the product says which pair is the shorter.
  unsigned best = 0;
  double least = 0;
  for (unsigned pair = 0; pair < 4; pair++) {
    const uint8_t *members = flow_pair_members[pair];
    double now = (double)(sums[members[0]] + 1) * (double)(sums[members[1]] + 1);
    if (pair == 0 || now < least) {
      best = pair;
      least = now;
    }
  }
  return best;
}
