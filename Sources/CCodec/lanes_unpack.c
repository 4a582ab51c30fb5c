// Samples out of lanes.
#include "lanes.h"

typedef uint32_t v8u __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef uint16_t v8h __attribute__((vector_size(16), aligned(2)));

/// How the blocks of a row are predicted, in one channel.
typedef struct {
  unsigned order;
  /// The loudness of each part.
  uint8_t parts[LANES][PARTS];
  /// Coefficient by coefficient, a lane each.
  int32_t coefficients[LANE_ORDER][LANES];
} lane_row;

/// Reads a row from `at` up to `end`; where it ends, or NULL when it is damaged.
static const uint8_t *get_row(const uint8_t *at, const uint8_t *end, lane_row *row) {
  memset(row, 0, sizeof *row);
  for (size_t l = 0; l < LANES; l++) {
    if (end - at < 1 + PARTS) return NULL;
    unsigned order = *at++;
    for (unsigned part = 0; part < PARTS; part++, at++) {
      if (low_of(*at) > 8) return NULL;
      row->parts[l][part] = *at;
    }
    if (order == 0) continue;
    if (order > LANE_ORDER || end - at < 1 + 2 * (ptrdiff_t)order || *at > LPC_POINT) return NULL;
    unsigned up = LPC_POINT - *at++;
    if (order > row->order) row->order = order;
    for (unsigned j = 0; j < order; j++, at += 2) {
      row->coefficients[j][l] = (int32_t)((uint32_t)(int16_t)(at[0] | at[1] << 8) << up);
    }
  }
  return at;
}

/// Eight rows of eight as eight columns.
#define SWAP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define SWAP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
static inline __attribute__((always_inline)) void transpose(v8h *r) {
  for (int round = 0; round < 3; round++) {
    v8h t[8];
    for (int i = 0; i < 4; i++) {
      t[2 * i] = SWAP_LOW(r[i], r[i + 4]);
      t[2 * i + 1] = SWAP_HIGH(r[i], r[i + 4]);
    }
    for (int i = 0; i < 8; i++) r[i] = t[i];
  }
}

/// Samples from zigzag residuals, in place: `count` (a multiple of 8) of every lane, from `x` on; `before` has the
/// LANE_ORDER samples before, the latest first. What a sample adds to the ORDER predictions after it is added at once,
/// so only the first of these sums is waited for.
static inline __attribute__((always_inline)) void predict(const unsigned ORDER, uint16_t *x, size_t count,
                                                          const v8u *coefficients, const v8u *before) {
  v8u sums[LANE_ORDER + 1];
  const v8u half = (v8u){0} + (1u << (LPC_POINT - 1));
  for (unsigned k = 0; k <= ORDER; k++) {
    sums[k] = half;
    for (unsigned j = 0; j + k < ORDER; j++) sums[k] += coefficients[k + j] * before[j];
  }
  for (size_t from = 0; from < count; from += LANES) {
    v8h tile[LANES];
    for (size_t l = 0; l < LANES; l++) {
      memcpy(&tile[l], x + l * LANE_STRIDE + from, sizeof tile[l]);
      tile[l] = tile[l] >> 1 ^ (0 - (tile[l] & 1));
    }
    transpose(tile);
#pragma clang loop unroll(full)
    for (size_t i = 0; i < LANES; i++) {
      v8u d = __builtin_convertvector(tile[i], v8u);
      if (ORDER > 0) d += (v8u)((v8i)sums[0] >> LPC_POINT);
      v8u sample = (v8u)((v8i)(d << 16) >> 16);
#pragma clang loop unroll(full)
      for (unsigned k = 0; k < ORDER; k++) sums[k] = sums[k + 1] + coefficients[k] * sample;
      tile[i] = __builtin_convertvector(sample, v8h);
    }
    transpose(tile);
    for (size_t l = 0; l < LANES; l++) memcpy(x + l * LANE_STRIDE + from, &tile[l], sizeof tile[l]);
  }
}

/// The samples of a row of blocks from its residuals, in place; the last samples of the row before are in `before`.
FLOW_CLONES static void restore(uint16_t *x, size_t count, const lane_row *row, const v8u *before) {
  v8u coefficients[LANE_ORDER];
  memcpy(coefficients, row->coefficients, sizeof coefficients);
  if (row->order == 0) {
    predict(0, x, count, coefficients, before);
  } else if (row->order <= 4) {
    predict(4, x, count, coefficients, before);
  } else if (row->order <= 8) {
    predict(8, x, count, coefficients, before);
  } else if (row->order <= 12) {
    predict(12, x, count, coefficients, before);
  } else {
    predict(16, x, count, coefficients, before);
  }
}

/// The last samples of every lane before `count`.
static void remember(const uint16_t *x, size_t count, v8u *before) {
  for (size_t j = 0; j < LANE_ORDER; j++) {
    for (size_t l = 0; l < LANES; l++) before[j][l] = (uint32_t)(int16_t)x[l * LANE_STRIDE + count - 1 - j];
  }
}

/// The zigzag residuals of a part: `count` is a multiple of 8.
FLOW_CLONES static void residuals(uint16_t *restrict v, size_t count, unsigned low, const uint8_t *restrict from,
                                  const uint8_t *restrict middle, const uint8_t *restrict high) {
  uint8_t bytes[LANE_PART];
  if (low > 0) {
    flow_low_as_bytes(bytes, count / 8, low, from);
  } else {
    memset(bytes, 0, sizeof bytes);
  }
  if (high) {
    for (size_t i = 0; i < count; i++) {
      v[i] = (uint16_t)(bytes[i] | (uint32_t)middle[i] << low | (uint32_t)high[i] << (8 + low));
    }
  } else {
    for (size_t i = 0; i < count; i++) v[i] = (uint16_t)(bytes[i] | (uint32_t)middle[i] << low);
  }
}

FLOW_CLONES static void left_and_right(unsigned pair, uint16_t *restrict a, uint16_t *restrict b, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint16_t x = a[i], y = b[i];
    if (pair == LEFT_SIDE) y = x - y;
    if (pair == SIDE_RIGHT) x += y;
    if (pair == MIDDLE_SIDE) {
      uint16_t right = (uint16_t)(x - ((int16_t)y >> 1));
      x = right + y;
      y = right;
    }
    a[i] = x;
    b[i] = y;
  }
}

/// One channel of samples into interleaved ones.
FLOW_CLONES static void put_samples(const uint16_t *restrict x, size_t count, size_t channels, unsigned shift,
                                    uint8_t *restrict to) {
  if (channels == 1) {
    for (size_t i = 0; i < count; i++) {
      to[2 * i] = (uint8_t)(x[i] << shift);
      to[2 * i + 1] = (uint8_t)((uint32_t)x[i] << shift >> 8);
    }
  } else {
    for (size_t i = 0; i < count; i++) {
      to[2 * i * channels] = (uint8_t)(x[i] << shift);
      to[2 * i * channels + 1] = (uint8_t)((uint32_t)x[i] << shift >> 8);
    }
  }
}

int flow_lanes_unpack(flow_codec *codec, const uint8_t *body, size_t length, uint8_t *target, size_t count) {
  if (length < HEADER) return 0;
  unsigned channels = body[0], shift = body[1];
  if (channels == 0 || channels > FLOW_CODEC_CHANNELS || shift > 15) return 0;
  lane_shape s = lanes_of(count, channels);
  if (!LANES_PAY(s.frames)) return 0;
  const uint8_t *end = body + length, *pairs = body + HEADER, *at = pairs;
  if (channels == 2) {
    if (length - HEADER < LANES) return 0;
    for (; at < pairs + LANES; at++) {
      if (*at > MIDDLE_SIDE) return 0;
    }
  }
  // The predictors say how many low bits there are, and with them where the planes begin.
  const uint8_t *predictors = at;
  lane_row row;
  size_t lows = 0, sizes[KINDS] = {0};
  for (size_t from = 0; from < s.lane; from += LANE_BLOCK) {
    size_t block = s.lane - from < LANE_BLOCK ? s.lane - from : LANE_BLOCK;
    for (unsigned c = 0; c < channels; c++) {
      at = get_row(at, end, &row);
      if (!at) return 0;
      for (size_t l = 0; l < LANES; l++) {
        for (size_t part = 0; part * LANE_PART < block; part++) {
          size_t left = block - part * LANE_PART, n = left < LANE_PART ? left : LANE_PART;
          lows += flow_low_bytes(n, low_of(row.parts[l][part]));
          sizes[kind_of(row.parts[l][part])] += n;
        }
      }
    }
  }
  const uint8_t *low = at;
  size_t place = (size_t)(at - body) + lows;
  // The planes of the kinds, one after the other.
  const uint8_t *middle[KINDS], *high = codec->planes[1];
  uint8_t *plane = codec->planes[0];
  for (unsigned kind = 0; kind < KINDS; kind++) {
    if (!flow_unpack_plane(codec, plane, sizes[kind], body + 2 + 4 * kind, body, length, &place)) return 0;
    middle[kind] = plane;
    plane += sizes[kind];
  }
  if (!flow_unpack_plane(codec, codec->planes[1], s.samples, body + 2 + 4 * KINDS, body, length, &place)) return 0;
  int isHigh = flow_get_u32(body + 2 + 4 * KINDS) > 0;
  if (place > length || length - place != s.rest) return 0;
  memcpy(target + count - s.rest, body + place, s.rest);

  v8u before[FLOW_CODEC_CHANNELS][LANE_ORDER];
  memset(before, 0, sizeof before);
  for (size_t from = 0; from < s.lane; from += LANE_BLOCK) {
    size_t block = s.lane - from < LANE_BLOCK ? s.lane - from : LANE_BLOCK;
    for (unsigned c = 0; c < channels; c++) {
      uint16_t *x = codec->lanes[c];
      predictors = get_row(predictors, end, &row);
      for (size_t l = 0; l < LANES; l++) {
        for (size_t begin = 0; begin < block; begin += LANE_PART) {
          size_t n = block - begin < LANE_PART ? block - begin : LANE_PART;
          unsigned loud = row.parts[l][begin / LANE_PART], kind = kind_of(loud);
          residuals(x + l * LANE_STRIDE + begin, n, low_of(loud), low, middle[kind], isHigh ? high : NULL);
          low += flow_low_bytes(n, low_of(loud));
          middle[kind] += n;
          high += n;
        }
      }
      size_t start = 0;
      if (from == 0) {
        // Nothing to predict from yet.
        lane_row none = {.order = 0};
        start = LANE_ORDER;
        restore(x, start, &none, before[c]);
        remember(x, start, before[c]);
      }
      restore(x + start, block - start, &row, before[c]);
      if (block >= LANE_ORDER) remember(x, block, before[c]);
    }
    for (size_t l = 0; l < LANES; l++) {
      size_t place = l * LANE_STRIDE, n = lane_present(&s, l, from, block);
      if (channels == 2 && pairs[l] != LEFT_RIGHT) {
        left_and_right(pairs[l], codec->lanes[0] + place, codec->lanes[1] + place, n);
      }
      uint8_t *to = target + (l * s.lane + from) * channels * 2;
      for (unsigned c = 0; c < channels && n > 0; c++) {
        put_samples(codec->lanes[c] + place, n, channels, shift, to + 2 * c);
      }
    }
  }
  return 1;
}
