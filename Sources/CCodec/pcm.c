// Polynomials: per block and channel the best of the fixed polynomial predictors (order 0 to 4, as in Shorten and FLAC),
// in stereo the best pair of left, right, middle and side; residuals as zigzag numbers, of which the lowest bits, being
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

static inline uint32_t magnitude(uint32_t x) { return (uint32_t)((int32_t)x < 0 ? 0 - x : x); }

FLOW_CLONES uint64_t flow_polynomial(const int32_t *x, size_t frames, unsigned scale, unsigned *order) {
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
    int32_t d = flow_wrap((uint32_t)p[0] - (prediction), bits);   \
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

static void remember(int32_t *channel, size_t frames) {
  memmove(channel, channel + frames, PCM_HISTORY * sizeof *channel);
}

size_t flow_pcm_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, unsigned width,
                     uint8_t *target, size_t room) {
  if (channels == 0 || channels > FLOW_CODEC_CHANNELS || (width != 2 && width != 3)) return 0;
  size_t whole = count / ((size_t)channels * width) * channels * width;
  pcm_shape s = shape_of(count, channels, width, flow_zero_bits(source, whole, width));
  if (s.frames == 0) return 0;
  // No residual takes more room than the low bits of its width.
  if (room < header_bytes(&s) + parameter_bytes(&s) + s.samples * 2 + s.blocks * channels * 16 + 64) return 0;
  uint8_t *parameters = target + header_bytes(&s), *low = parameters + parameter_bytes(&s);
  int32_t(*x)[LANE_ORDER + PCM_BLOCK] = codec->channels;
  memset(x, 0, sizeof codec->channels);
  unsigned scale = width == 3 ? 4 : 0;
  size_t at = 0;
  for (size_t from = 0; from < s.frames; from += PCM_BLOCK) {
    size_t frames = s.frames - from < PCM_BLOCK ? s.frames - from : PCM_BLOCK;
    for (unsigned c = 0; c < channels; c++) {
      flow_take_apart(source + from * channels * width, frames, channels, width, c, s.shift, x[c] + PCM_HISTORY);
    }
    unsigned kept[FLOW_CODEC_CHANNELS], orders[FLOW_CODEC_CHANNELS + 2];
    uint64_t sums[FLOW_CODEC_CHANNELS + 2];
    if (channels == 2) flow_middle_and_side(x[0], x[1], PCM_HISTORY + frames, s.bits, x[2], x[3]);
    for (unsigned c = 0; c < (channels == 2 ? 4 : channels); c++) {
      sums[c] = flow_polynomial(x[c] + PCM_HISTORY, frames, scale, &orders[c]);
      if (c < channels) kept[c] = c;
    }
    if (channels == 2) {
      unsigned best = flow_best_pair(sums);
      *parameters++ = (uint8_t)best;
      kept[0] = flow_pair_members[best][0];
      kept[1] = flow_pair_members[best][1];
    }
    for (unsigned c = 0; c < channels; c++) {
      uint32_t *v = codec->residual;
      residuals(x[kept[c]] + PCM_HISTORY, frames, orders[kept[c]], s.bits, v);
      size_t groups = (frames + 7) / 8;
      memset(v + frames, 0, (8 * groups - frames) * sizeof *v);
      unsigned bits = flow_noisy_bits(v, frames, 32, width == 2 ? 8 : 15);
      *parameters++ = (uint8_t)orders[kept[c]];
      *parameters++ = (uint8_t)bits;
      low = flow_put_low(v, groups, bits, low);
      for (unsigned p = 0; p < s.planes; p++) flow_put_plane(v, frames, bits + 8 * p, codec->planes[p] + at);
      at += frames;
    }
    for (unsigned c = 0; c < channels; c++) remember(x[c], frames);
  }
  target[0] = (uint8_t)channels;
  target[1] = (uint8_t)width;
  target[2] = (uint8_t)s.shift;
  for (unsigned p = 0; p < s.planes; p++) {
    low = flow_pack_plane(codec, codec->planes[p], s.samples, target + 3 + 4 * p, low, target + room);
    if (!low) return 0;
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
      at += flow_low_bytes(frames, p[1]);
    }
  }
  for (unsigned plane = 0; plane < s.planes; plane++) {
    if (!flow_unpack_plane(codec, codec->planes[plane], s.samples, body + 3 + 4 * plane, body, length, &at)) return 0;
  }
  if (at > length || length - at != rest) return 0;
  memcpy(target + count - rest, body + at, rest);

  int32_t(*x)[LANE_ORDER + PCM_BLOCK] = codec->channels;
  memset(x, 0, sizeof codec->channels);
  size_t sample = 0;
  for (size_t from = 0; from < s.frames; from += PCM_BLOCK) {
    size_t frames = s.frames - from < PCM_BLOCK ? s.frames - from : PCM_BLOCK;
    unsigned pair = channels == 2 ? *parameters++ : LEFT_RIGHT;
    // What came before is known as left and right, and is needed as what the pair keeps.
    if (pair != LEFT_RIGHT) {
      flow_middle_and_side(x[0], x[1], PCM_HISTORY, s.bits, x[2], x[3]);
      int32_t before[2][PCM_HISTORY];
      for (unsigned c = 0; c < 2; c++) memcpy(before[c], x[flow_pair_members[pair][c]], sizeof before[c]);
      for (unsigned c = 0; c < 2; c++) memcpy(x[c], before[c], sizeof before[c]);
    }
    for (unsigned c = 0; c < channels; c++, parameters += 2) {
      uint32_t *v = codec->residual;
      low = flow_get_low(v, (frames + 7) / 8, parameters[1], low);
      for (unsigned plane = 0; plane < s.planes; plane++) {
        if (flow_get_u32(body + 3 + 4 * plane) == 0) continue;
        flow_get_plane(v, frames, parameters[1] + 8 * plane, codec->planes[plane] + sample);
      }
      sample += frames;
      unzigzag(v, frames, x[c] + PCM_HISTORY);
      samples(x[c] + PCM_HISTORY, frames, parameters[0]);
    }
    if (pair != LEFT_RIGHT) flow_left_and_right(pair, x[0], x[1], PCM_HISTORY + frames, s.bits);
    for (unsigned c = 0; c < channels; c++) {
      flow_put_together(x[c] + PCM_HISTORY, frames, channels, width, c, s.shift, target + from * channels * width);
      remember(x[c], frames);
    }
  }
  return 1;
}
