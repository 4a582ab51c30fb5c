// Residuals as bits: the lowest, being noise, packed as they are; the rest as byte planes through zstd, whose Huffman
// coder does the work.
#include "codec.h"

FLOW_CLONES unsigned flow_noisy_bits(const uint32_t *v, size_t count, unsigned least, unsigned most) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += v[i];
  uint64_t mean = sum / count;
  unsigned low = 0;
  while (low < most && mean >> low >= least) low++;
  return low;
}

/// Eight numbers of `low` bits (below 8) in the eight bytes of `x`, drawn together to the low end.
static inline uint64_t draw_together(uint64_t x, unsigned low) {
  unsigned gap = 8 - low;
  x = (x & 0x00FF00FF00FF00FFu) | (x & 0xFF00FF00FF00FF00u) >> gap;
  x = (x & 0x0000FFFF0000FFFFu) | (x & 0xFFFF0000FFFF0000u) >> 2 * gap;
  return (x & 0x00000000FFFFFFFFu) | (x & 0xFFFFFFFF00000000u) >> 4 * gap;
}

static inline uint64_t draw_apart(uint64_t x, unsigned low) {
  unsigned gap = 8 - low;
  uint64_t half = ((uint64_t)1 << 4 * low) - 1, quarter = ((uint64_t)1 << 2 * low) - 1;
  x = (x & half) | (x & half << 4 * low) << 4 * gap;
  quarter |= quarter << 32;
  x = (x & quarter) | (x & quarter << 2 * low) << 2 * gap;
  uint64_t one = (((uint64_t)1 << low) - 1) * 0x0001000100010001u;
  return (x & one) | (x & one << low) << gap;
}

FLOW_CLONES uint8_t *flow_put_low(const uint32_t *v, size_t groups, unsigned low, uint8_t *to) {
  unsigned shift = 0;
  if (low >= 8) {
    for (size_t i = 0; i < 8 * groups; i++) to[i] = (uint8_t)v[i];
    to += 8 * groups;
    low -= 8;
    shift = 8;
  }
  if (low == 0) return to;
  uint8_t bytes[PCM_BLOCK];
  uint8_t mask = (uint8_t)((1u << low) - 1);
  for (size_t i = 0; i < 8 * groups; i++) bytes[i] = (uint8_t)(v[i] >> shift) & mask;
  for (size_t g = 0; g < groups; g++) {
    uint64_t x;
    memcpy(&x, bytes + 8 * g, 8);
    x = draw_together(x, low);
    memcpy(to + low * g, &x, low);
  }
  return to + low * groups;
}

FLOW_CLONES void flow_low_as_bytes(uint8_t *bytes, size_t groups, unsigned low, const uint8_t *from) {
  if (low == 8) {
    memcpy(bytes, from, 8 * groups);
    return;
  }
  for (size_t g = 0; g < groups; g++) {
    uint64_t x = 0;
    memcpy(&x, from + low * g, low);
    x = draw_apart(x, low);
    memcpy(bytes + 8 * g, &x, 8);
  }
}

FLOW_CLONES const uint8_t *flow_get_low(uint32_t *v, size_t groups, unsigned low, const uint8_t *from) {
  unsigned shift = 0;
  if (low >= 8) {
    for (size_t i = 0; i < 8 * groups; i++) v[i] = from[i];
    from += 8 * groups;
    low -= 8;
    shift = 8;
  } else {
    memset(v, 0, 32 * groups);
  }
  if (low == 0) return from;
  uint8_t bytes[PCM_BLOCK];
  flow_low_as_bytes(bytes, groups, low, from);
  for (size_t i = 0; i < 8 * groups; i++) v[i] |= (uint32_t)bytes[i] << shift;
  return from + low * groups;
}

FLOW_CLONES void flow_put_plane(const uint32_t *restrict v, size_t frames, unsigned shift, uint8_t *restrict to) {
  for (size_t i = 0; i < frames; i++) to[i] = (uint8_t)(v[i] >> shift);
}

FLOW_CLONES void flow_get_plane(uint32_t *restrict v, size_t frames, unsigned shift, const uint8_t *restrict from) {
  for (size_t i = 0; i < frames; i++) v[i] |= (uint32_t)from[i] << shift;
}

uint8_t *flow_pack_plane(flow_codec *codec, const uint8_t *plane, size_t samples, uint8_t *size, uint8_t *to,
                         const uint8_t *end) {
  size_t packed = 0, used = 0;
  while (used < samples && plane[used] == 0) used++;
  if (used < samples) {
    if ((size_t)(end - to) < samples) return NULL;
    packed = flow_zstd_pack(codec, plane, samples, to, (size_t)(end - to), 1);
    if (packed == 0 || packed >= samples) {
      memcpy(to, plane, samples);
      packed = samples;
    }
  }
  flow_put_u32(size, packed);
  return to + packed;
}

int flow_unpack_plane(flow_codec *codec, uint8_t *plane, size_t samples, const uint8_t *size, const uint8_t *body,
                      size_t length, size_t *at) {
  size_t packed = flow_get_u32(size);
  if (*at > length || packed > length - *at || packed > samples) return 0;
  const uint8_t *from = body + *at;
  *at += packed;
  if (packed == 0) {
    memset(plane, 0, samples);
  } else if (packed == samples) {
    memcpy(plane, from, samples);
  } else {
    return ZSTD_decompressDCtx(codec->unpacker, plane, samples, from, packed) == samples;
  }
  return 1;
}
