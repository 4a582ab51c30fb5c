// Samples into lanes.
#include "lanes.h"

/// The samples of one channel in one block of a lane, with the LANE_ORDER before it (zeros before the first).
static void take_block(const lane_shape *s, const uint8_t *source, unsigned shift, unsigned channel, size_t lane,
                       size_t from, size_t count, int32_t *to) {
  size_t before = from > 0 ? LANE_ORDER : 0;
  size_t here = lane_present(s, lane, from - before, before + count);
  memset(to, 0, (LANE_ORDER + count) * sizeof *to);
  if (here == 0) return;
  const uint8_t *at = source + (lane * s->lane + from - before) * s->channels * 2;
  flow_take_apart(at, here, s->channels, 2, channel, shift, to + LANE_ORDER - before);
}

static void take_pair(const lane_shape *s, const uint8_t *source, unsigned shift, size_t lane, size_t from,
                      size_t count, int32_t (*x)[LANE_ORDER + PCM_BLOCK]) {
  for (unsigned c = 0; c < 2; c++) take_block(s, source, shift, c, lane, from, count, x[c]);
  flow_middle_and_side(x[0], x[1], LANE_ORDER + count, 16, x[2], x[3]);
}

/// The pair that suits most of a lane: every fourth block is asked.
static unsigned choose_pair(const lane_shape *s, const uint8_t *source, unsigned shift, size_t lane,
                            flow_codec *codec) {
  uint64_t sums[4] = {0, 0, 0, 0};
  for (size_t from = 0; from < s->lane; from += 4 * LANE_BLOCK) {
    size_t count = s->lane - from < LANE_BLOCK ? s->lane - from : LANE_BLOCK;
    take_pair(s, source, shift, lane, from, count, codec->channels);
    for (unsigned c = 0; c < 4; c++) {
      unsigned order;
      sums[c] += flow_polynomial(codec->channels[c] + LANE_ORDER, count, 0, &order);
    }
  }
  return flow_best_pair(sums);
}

FLOW_CLONES static uint64_t sum_of(const uint32_t *v, size_t count) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += v[i];
  return sum;
}

static unsigned loudness(const uint32_t *v, size_t count) {
  // 64ths: 24 / 2^5, and up by the root of two to 24 / 2^0.5.
  static const uint16_t steps[QUIET] = {48, 68, 96, 136, 192, 271, 384, 543, 768, 1086};
  uint64_t mean = sum_of(v, count) * 64 / count;
  for (unsigned quiet = 0; quiet < QUIET; quiet++) {
    if (mean < steps[quiet]) return quiet;
  }
  unsigned low = 0;
  while (low < 8 && mean >> low >= 2 * 64 * LOUD) low++;
  return QUIET + 2 * low + (mean >> low >= 64 * LOUD * 181 / 128);
}

/// Writes how a block is predicted.
static uint8_t *put_predictor(const lpc_predictor *predictor, const uint8_t parts[PARTS], uint8_t *to) {
  *to++ = (uint8_t)predictor->order;
  memcpy(to, parts, PARTS);
  to += PARTS;
  if (predictor->order == 0) return to;
  *to++ = (uint8_t)predictor->scale;
  for (unsigned j = 0; j < predictor->order; j++) {
    *to++ = (uint8_t)predictor->coefficients[j];
    *to++ = (uint8_t)(predictor->coefficients[j] >> 8);
  }
  return to;
}

/// Writes the parts of each kind one after the other, and the highest bits of all.
static uint8_t *put_planes(flow_codec *codec, const lane_shape *s, uint8_t *sizes, uint8_t *to, const uint8_t *end) {
  for (unsigned kind = 0; kind < KINDS && to; kind++) {
    size_t at = 0, samples = 0;
    const uint8_t *parts = codec->parts;
    for (size_t from = 0; from < s->lane; from += LANE_BLOCK) {
      size_t block = s->lane - from < LANE_BLOCK ? s->lane - from : LANE_BLOCK;
      for (size_t l = 0; l < LANES * s->channels; l++, parts += PARTS) {
        for (size_t begin = 0; begin < block; begin += LANE_PART) {
          size_t n = block - begin < LANE_PART ? block - begin : LANE_PART;
          if (kind_of(parts[begin / LANE_PART]) == kind) {
            memcpy(codec->planes[2] + samples, codec->planes[0] + at, n);
            samples += n;
          }
          at += n;
        }
      }
    }
    to = flow_pack_plane(codec, codec->planes[2], samples, sizes + 4 * kind, to, end);
  }
  return to ? flow_pack_plane(codec, codec->planes[1], s->samples, sizes + 4 * KINDS, to, end) : NULL;
}

size_t flow_lanes_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, uint8_t *target,
                       size_t room) {
  lane_shape s = lanes_of(count, channels);
  size_t rows = (s.lane + LANE_BLOCK - 1) / LANE_BLOCK;
  // Low bits grow behind the longest that predictors may get, and are moved up to them.
  size_t most = HEADER + LANES + rows * channels * LANES * (2 + PARTS + 2 * LANE_ORDER);
  if (room < most + s.samples) return 0;
  unsigned shift = flow_zero_bits(source, count - s.rest, 2), pairs[LANES] = {0};
  target[0] = (uint8_t)channels;
  target[1] = (uint8_t)shift;
  uint8_t *predictors = target + HEADER, *lows = target + most, *low = lows;
  if (channels == 2) {
    for (size_t l = 0; l < LANES; l++) *predictors++ = (uint8_t)(pairs[l] = choose_pair(&s, source, shift, l, codec));
  }
  int32_t(*x)[LANE_ORDER + PCM_BLOCK] = codec->channels;
  uint32_t *v = codec->residual;
  uint8_t *kinds = codec->parts;
  size_t at = 0;
  for (size_t from = 0; from < s.lane; from += LANE_BLOCK) {
    size_t block = s.lane - from < LANE_BLOCK ? s.lane - from : LANE_BLOCK;
    for (unsigned c = 0; c < channels; c++) {
      for (size_t l = 0; l < LANES; l++) {
        unsigned kept = 0;
        if (channels == 2 && pairs[l] != LEFT_RIGHT) {
          take_pair(&s, source, shift, l, from, block, x);
          kept = flow_pair_members[pairs[l]][c];
        } else {
          take_block(&s, source, shift, c, l, from, block, x[0]);
        }
        lpc_predictor predictor = flow_lpc_analyse(x[kept] + LANE_ORDER, block);
        size_t start = from == 0 ? LANE_ORDER : 0;
        lpc_predictor none = {.order = 0};
        flow_lpc_residuals(x[kept] + LANE_ORDER, start, &none, v);
        flow_lpc_residuals(x[kept] + LANE_ORDER + start, block - start, &predictor, v + start);
        uint8_t parts[PARTS] = {0};
        for (size_t part = 0; part * LANE_PART < block; part++) {
          size_t begin = part * LANE_PART, n = block - begin < LANE_PART ? block - begin : LANE_PART;
          parts[part] = (uint8_t)loudness(v + begin, n);
          unsigned bits = low_of(parts[part]);
          low = flow_put_low(v + begin, n / 8, bits, low);
          flow_put_plane(v + begin, n, bits, codec->planes[0] + at + begin);
          flow_put_plane(v + begin, n, bits + 8, codec->planes[1] + at + begin);
        }
        at += block;
        memcpy(kinds, parts, PARTS);
        kinds += PARTS;
        predictors = put_predictor(&predictor, parts, predictors);
      }
    }
  }
  memmove(predictors, lows, (size_t)(low - lows));
  low = predictors + (low - lows);
  low = put_planes(codec, &s, target + 2, low, target + room);
  if (!low || room - (size_t)(low - target) < s.rest) return 0;
  memcpy(low, source + count - s.rest, s.rest);
  return (size_t)(low - target) + s.rest;
}
