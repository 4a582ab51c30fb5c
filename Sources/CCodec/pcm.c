// PCM: per block and channel the best of the fixed polynomial predictors (order 0 to 4, as in Shorten and FLAC), in
// stereo the best pair of left, right, middle and side; residuals as zigzag numbers, of which the lowest bits, being
// noise, are packed as they are and the rest goes as byte planes through zstd, whose Huffman coder does the work.
//
// A body: channels, width, shift (zero bits at the low end of every sample), the lengths of the planes (u32 each: 0 all
// zero, the number of samples: as it is); per block the pair (stereo) and per channel order and low bits; low bits;
// planes; bytes that fill no frame. Arithmetic is modulo 2^32 everywhere, so any bytes decode to something.
#include "codec.h"

typedef struct {
  unsigned channels, width, shift, bits;
  size_t frames, samples, blocks;
  unsigned planes;
} pcm_shape;

static pcm_shape shape_of(size_t count, unsigned channels, unsigned width, unsigned shift) {
  pcm_shape s = {.channels = channels, .width = width, .shift = shift, .bits = 8 * width - shift};
  s.frames = count / ((size_t)channels * width);
  s.samples = s.frames * channels;
  s.blocks = (s.frames + PCM_BLOCK - 1) / PCM_BLOCK;
  s.planes = width;
  return s;
}

static size_t header_bytes(const pcm_shape *s) { return 3 + 4 * (size_t)s->planes; }
static size_t parameter_bytes(const pcm_shape *s) { return s->blocks * (2 * s->channels + (s->channels == 2)); }
/// Whole groups of eight, so that packing needs no tail.
static size_t low_bytes(size_t frames, unsigned low) { return (frames + 7) / 8 * low; }

static inline int32_t wrap(uint32_t x, unsigned bits) { return (int32_t)(x << (32 - bits)) >> (32 - bits); }

FLOW_CLONES static void take_apart(const uint8_t *source, size_t frames, unsigned channels, unsigned width,
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
      to[i] = wrap(x, 8 * width) >> shift;
    }
  }
}

FLOW_CLONES static void put_together(const int32_t *restrict from, size_t frames, unsigned channels, unsigned width,
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

static inline uint32_t magnitude(uint32_t x) { return (uint32_t)((int32_t)x < 0 ? 0 - x : x); }

/// The order whose residuals are smallest, and their sum (in units of 2^scale); `x` has its history before it.
FLOW_CLONES static uint64_t predict(const int32_t *x, size_t frames, unsigned scale, unsigned *order) {
  uint64_t sums[5] = {0, 0, 0, 0, 0};
  for (size_t from = 0; from < frames; from += 64) {
    size_t to = from + 64 < frames ? from + 64 : frames;
    // 64 residuals of 20 bits (of 28 bits, scaled) sum up within 32.
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    for (size_t i = from; i < to; i++) {
      const int32_t *p = x + i;
      uint32_t a = (uint32_t)p[0], b = (uint32_t)p[-1], c = (uint32_t)p[-2], d = (uint32_t)p[-3], e = (uint32_t)p[-4];
      uint32_t ab = a - b, bc = b - c, cd = c - d, de = d - e;
      uint32_t ab2 = ab - bc, bc2 = bc - cd, cd2 = cd - de;
      s0 += magnitude(a) >> scale;
      s1 += magnitude(ab) >> scale;
      s2 += magnitude(ab2) >> scale;
      s3 += magnitude(ab2 - bc2) >> scale;
      s4 += magnitude(ab2 - 2 * bc2 + cd2) >> scale;
    }
    sums[0] += s0;
    sums[1] += s1;
    sums[2] += s2;
    sums[3] += s3;
    sums[4] += s4;
  }
  *order = 0;
  for (unsigned p = 1; p < 5; p++) {
    if (sums[p] < sums[*order]) *order = p;
  }
  return sums[*order];
}

#define RESIDUALS(prediction)                                     \
  for (size_t i = 0; i < frames; i++) {                           \
    const int32_t *p = x + i;                                     \
    int32_t d = wrap((uint32_t)p[0] - (prediction), bits);        \
    v[i] = ((uint32_t)d << 1 ^ (uint32_t)(d >> 31)) & mask;       \
  }                                                               \
  break
#define X(k) ((uint32_t)p[-(k)])

/// Zigzag residuals of `bits` bits.
FLOW_CLONES static void residuals(const int32_t *restrict x, size_t frames, unsigned order, unsigned bits,
                                  uint32_t *restrict v) {
  uint32_t mask = 0xFFFFFFFFu >> (32 - bits);
  switch (order) {
    case 0: RESIDUALS(0);
    case 1: RESIDUALS(X(1));
    case 2: RESIDUALS(2 * X(1) - X(2));
    case 3: RESIDUALS(3 * X(1) - 3 * X(2) + X(3));
    default: RESIDUALS(4 * X(1) - 6 * X(2) + 4 * X(3) - X(4));
  }
}

#define SAMPLES(prediction)                             \
  for (size_t i = 0; i < frames; i++) {                 \
    int32_t *p = x + i;                                 \
    p[0] = (int32_t)((uint32_t)p[0] + (prediction));    \
  }                                                     \
  break

FLOW_CLONES static void unzigzag(const uint32_t *restrict v, size_t frames, int32_t *restrict x) {
  for (size_t i = 0; i < frames; i++) x[i] = (int32_t)(v[i] >> 1 ^ (0 - (v[i] & 1)));
}

/// Samples from their residuals, in place. Only the low bits count, and those are right without wrapping, as the
/// predictors are sums. Each sample waits for the one before, so there is nothing to vectorise.
static void samples(int32_t *x, size_t frames, unsigned order) {
  switch (order) {
    case 0: break;
    case 1: SAMPLES(X(1));
    case 2: SAMPLES(2 * X(1) - X(2));
    case 3: SAMPLES(3 * X(1) - 3 * X(2) + X(3));
    default: SAMPLES(4 * X(1) - 6 * X(2) + 4 * X(3) - X(4));
  }
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

/// The lowest `low` bits of `v`, which holds whole groups of eight: a plane of bytes for eight of them, then the rest.
FLOW_CLONES static uint8_t *put_low(const uint32_t *v, size_t groups, unsigned low, uint8_t *to) {
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

/// The inverse of `put_low`, which sets `v`.
FLOW_CLONES static const uint8_t *get_low(uint32_t *v, size_t groups, unsigned low, const uint8_t *from) {
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
  for (size_t g = 0; g < groups; g++) {
    uint64_t x = 0;
    memcpy(&x, from + low * g, low);
    x = draw_apart(x, low);
    memcpy(bytes + 8 * g, &x, 8);
  }
  for (size_t i = 0; i < 8 * groups; i++) v[i] |= (uint32_t)bytes[i] << shift;
  return from + low * groups;
}

FLOW_CLONES static void put_plane(const uint32_t *restrict v, size_t frames, unsigned shift, uint8_t *restrict to) {
  for (size_t i = 0; i < frames; i++) to[i] = (uint8_t)(v[i] >> shift);
}

FLOW_CLONES static void get_plane(uint32_t *restrict v, size_t frames, unsigned shift, const uint8_t *restrict from) {
  for (size_t i = 0; i < frames; i++) v[i] |= (uint32_t)from[i] << shift;
}

/// How many of the lowest bits are as good as noise: what is left above them has a mean of 16 to 32, which a byte
/// nearly always holds and Huffman codes describe well.
static unsigned noisy_bits(const uint32_t *v, size_t frames, unsigned width) {
  uint64_t sum = 0;
  for (size_t i = 0; i < frames; i++) sum += v[i];
  uint64_t mean = sum / frames;
  unsigned low = 0, most = width == 2 ? 8 : 15;
  while (low < most && mean >> low >= 32) low++;
  return low;
}

/// Middle and side by lifting, which undoes itself modulo 2^bits.
FLOW_CLONES static void middle_and_side(const int32_t *l, const int32_t *r, size_t count, unsigned bits, int32_t *m,
                                        int32_t *s) {
  for (size_t i = 0; i < count; i++) {
    s[i] = wrap((uint32_t)l[i] - (uint32_t)r[i], bits);
    m[i] = wrap((uint32_t)r[i] + (uint32_t)(s[i] >> 1), bits);
  }
}

/// The pairs of stereo: which two of left, right, middle, side are kept.
enum { LEFT_RIGHT, LEFT_SIDE, SIDE_RIGHT, MIDDLE_SIDE };
static const uint8_t pair_members[4][2] = {{0, 1}, {0, 3}, {3, 1}, {2, 3}};

/// Left and right from what `pair` kept in the channels 0 and 1.
FLOW_CLONES static void left_and_right(unsigned pair, int32_t *a, int32_t *b, size_t count, unsigned bits) {
  for (size_t i = 0; i < count; i++) {
    uint32_t x = (uint32_t)a[i], y = (uint32_t)b[i];
    if (pair == LEFT_SIDE) y = x - y;
    if (pair == SIDE_RIGHT) x += y;
    if (pair == MIDDLE_SIDE) {
      uint32_t right = x - (uint32_t)(wrap(y, bits) >> 1);
      x = right + y;
      y = right;
    }
    a[i] = (int32_t)x;
    b[i] = (int32_t)y;
  }
}

FLOW_CLONES static unsigned zero_bits(const uint8_t *source, size_t bytes, unsigned width) {
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

static void remember(int32_t *channel, size_t frames) {
  memmove(channel, channel + frames, PCM_HISTORY * sizeof *channel);
}

size_t flow_pcm_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, unsigned width,
                     uint8_t *target, size_t room) {
  if (channels == 0 || channels > FLOW_CODEC_CHANNELS || (width != 2 && width != 3)) return 0;
  size_t whole = count / ((size_t)channels * width) * channels * width;
  pcm_shape s = shape_of(count, channels, width, zero_bits(source, whole, width));
  if (s.frames == 0) return 0;
  // No residual takes more room than the low bits of its width.
  if (room < header_bytes(&s) + parameter_bytes(&s) + s.samples * 2 + s.blocks * channels * 16 + 64) return 0;
  uint8_t *parameters = target + header_bytes(&s), *low = parameters + parameter_bytes(&s);
  int32_t(*x)[PCM_HISTORY + PCM_BLOCK] = codec->channels;
  memset(x, 0, sizeof codec->channels);
  unsigned scale = width == 3 ? 4 : 0;
  size_t at = 0;
  for (size_t from = 0; from < s.frames; from += PCM_BLOCK) {
    size_t frames = s.frames - from < PCM_BLOCK ? s.frames - from : PCM_BLOCK;
    for (unsigned c = 0; c < channels; c++) {
      take_apart(source + from * channels * width, frames, channels, width, c, s.shift, x[c] + PCM_HISTORY);
    }
    unsigned kept[FLOW_CODEC_CHANNELS], orders[FLOW_CODEC_CHANNELS + 2];
    uint64_t sums[FLOW_CODEC_CHANNELS + 2];
    if (channels == 2) middle_and_side(x[0], x[1], PCM_HISTORY + frames, s.bits, x[2], x[3]);
    for (unsigned c = 0; c < (channels == 2 ? 4 : channels); c++) {
      sums[c] = predict(x[c] + PCM_HISTORY, frames, scale, &orders[c]);
      if (c < channels) kept[c] = c;
    }
    if (channels == 2) {
      // Bits go with the logarithm of the sums, so the product says which pair is the shorter.
      unsigned best = 0;
      for (unsigned pair = 1; pair < 4; pair++) {
        double now = (double)(sums[pair_members[pair][0]] + 1) * (double)(sums[pair_members[pair][1]] + 1);
        double old = (double)(sums[pair_members[best][0]] + 1) * (double)(sums[pair_members[best][1]] + 1);
        if (now < old) best = pair;
      }
      *parameters++ = (uint8_t)best;
      kept[0] = pair_members[best][0];
      kept[1] = pair_members[best][1];
    }
    for (unsigned c = 0; c < channels; c++) {
      uint32_t *v = codec->residual;
      residuals(x[kept[c]] + PCM_HISTORY, frames, orders[kept[c]], s.bits, v);
      size_t groups = (frames + 7) / 8;
      memset(v + frames, 0, (8 * groups - frames) * sizeof *v);
      unsigned bits = noisy_bits(v, frames, width);
      *parameters++ = (uint8_t)orders[kept[c]];
      *parameters++ = (uint8_t)bits;
      low = put_low(v, groups, bits, low);
      for (unsigned p = 0; p < s.planes; p++) put_plane(v, frames, bits + 8 * p, codec->planes[p] + at);
      at += frames;
    }
    for (unsigned c = 0; c < channels; c++) remember(x[c], frames);
  }
  target[0] = (uint8_t)channels;
  target[1] = (uint8_t)width;
  target[2] = (uint8_t)s.shift;
  for (unsigned p = 0; p < s.planes; p++) {
    size_t left = room - (size_t)(low - target), size = 0;
    int isZero = 1;
    for (size_t i = 0; i < s.samples && isZero; i++) isZero = codec->planes[p][i] == 0;
    if (!isZero) {
      if (left < s.samples) return 0;
      size = flow_zstd_pack(codec, codec->planes[p], s.samples, low, left, 1);
      if (size == 0 || size >= s.samples) {
        memcpy(low, codec->planes[p], s.samples);
        size = s.samples;
      }
    }
    flow_put_u32(target + 3 + 4 * p, size);
    low += size;
  }
  if (room - (size_t)(low - target) < count - whole) return 0;
  memcpy(low, source + whole, count - whole);
  return (size_t)(low - target) + count - whole;
}

int flow_pcm_unpack(flow_codec *codec, const uint8_t *body, size_t length, uint8_t *target, size_t count) {
  if (length < 3) return 0;
  unsigned channels = body[0], width = body[1];
  if (channels == 0 || channels > FLOW_CODEC_CHANNELS || (width != 2 && width != 3) || body[2] >= 8 * width) return 0;
  pcm_shape s = shape_of(count, channels, width, body[2]);
  size_t rest = count - s.samples * width;
  if (s.frames == 0 || length < header_bytes(&s) + parameter_bytes(&s) + rest) return 0;
  // The parameters say how many low bits there are, and with them where the planes begin.
  const uint8_t *parameters = body + header_bytes(&s), *low = parameters + parameter_bytes(&s);
  size_t at = (size_t)(low - body);
  const uint8_t *p = parameters;
  for (size_t from = 0; from < s.frames; from += PCM_BLOCK) {
    size_t frames = s.frames - from < PCM_BLOCK ? s.frames - from : PCM_BLOCK;
    if (channels == 2 && *p++ > MIDDLE_SIDE) return 0;
    for (unsigned c = 0; c < channels; c++, p += 2) {
      if (p[0] > PCM_HISTORY || p[1] > (width == 2 ? 8 : 15)) return 0;
      at += low_bytes(frames, p[1]);
    }
  }
  int used[3] = {0, 0, 0};
  for (unsigned plane = 0; plane < s.planes; plane++) {
    size_t size = flow_get_u32(body + 3 + 4 * plane);
    if (at > length || size > length - at || size > s.samples) return 0;
    if (size == 0) continue;
    used[plane] = 1;
    if (size == s.samples) {
      memcpy(codec->planes[plane], body + at, size);
    } else if (ZSTD_decompressDCtx(codec->unpacker, codec->planes[plane], s.samples, body + at, size) != s.samples) {
      return 0;
    }
    at += size;
  }
  if (at > length || length - at != rest) return 0;
  memcpy(target + count - rest, body + at, rest);

  int32_t(*x)[PCM_HISTORY + PCM_BLOCK] = codec->channels;
  memset(x, 0, sizeof codec->channels);
  size_t sample = 0;
  for (size_t from = 0; from < s.frames; from += PCM_BLOCK) {
    size_t frames = s.frames - from < PCM_BLOCK ? s.frames - from : PCM_BLOCK;
    unsigned pair = channels == 2 ? *parameters++ : LEFT_RIGHT;
    // What came before is known as left and right, and is needed as what the pair keeps.
    if (pair != LEFT_RIGHT) {
      middle_and_side(x[0], x[1], PCM_HISTORY, s.bits, x[2], x[3]);
      int32_t before[2][PCM_HISTORY];
      for (unsigned c = 0; c < 2; c++) memcpy(before[c], x[pair_members[pair][c]], sizeof before[c]);
      for (unsigned c = 0; c < 2; c++) memcpy(x[c], before[c], sizeof before[c]);
    }
    for (unsigned c = 0; c < channels; c++, parameters += 2) {
      uint32_t *v = codec->residual;
      low = get_low(v, (frames + 7) / 8, parameters[1], low);
      for (unsigned plane = 0; plane < s.planes; plane++) {
        if (used[plane]) get_plane(v, frames, parameters[1] + 8 * plane, codec->planes[plane] + sample);
      }
      sample += frames;
      unzigzag(v, frames, x[c] + PCM_HISTORY);
      samples(x[c] + PCM_HISTORY, frames, parameters[0]);
    }
    if (pair != LEFT_RIGHT) left_and_right(pair, x[0], x[1], PCM_HISTORY + frames, s.bits);
    for (unsigned c = 0; c < channels; c++) {
      put_together(x[c] + PCM_HISTORY, frames, channels, width, c, s.shift, target + from * channels * width);
      remember(x[c], frames);
    }
  }
  return 1;
}
