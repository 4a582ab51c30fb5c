// Chunks: raw, zstd, zstd over shuffled bytes, or predicted sound, whichever pays.
#include "codec.h"

#include <stdlib.h>

flow_codec *flow_codec_make(void) {
  flow_codec *codec = calloc(1, sizeof *codec);
  if (!codec) return NULL;
  codec->packer = ZSTD_createCCtx();
  codec->unpacker = ZSTD_createDCtx();
  if (codec->packer && codec->unpacker) return codec;
  flow_codec_free(codec);
  return NULL;
}

void flow_codec_free(flow_codec *codec) {
  if (!codec) return;
  ZSTD_freeCCtx(codec->packer);
  ZSTD_freeDCtx(codec->unpacker);
  free(codec);
}

size_t flow_zstd_pack(flow_codec *codec, const uint8_t *source, size_t count, uint8_t *target, size_t room, int level) {
  size_t size = ZSTD_compressCCtx(codec->packer, target, room, source, count, level);
  return ZSTD_isError(size) ? 0 : size;
}

/// All first bytes of `width`, then all second ones …; what doesn't fill an element comes last.
FLOW_CLONES static void shuffle(const uint8_t *restrict source, size_t count, size_t width, uint8_t *restrict target) {
  size_t elements = count / width;
  for (size_t byte = 0; byte < width; byte++) {
    for (size_t i = 0; i < elements; i++) target[byte * elements + i] = source[i * width + byte];
  }
  memcpy(target + elements * width, source + elements * width, count - elements * width);
}

FLOW_CLONES static void unshuffle(const uint8_t *restrict source, size_t count, size_t width,
                                  uint8_t *restrict target) {
  size_t elements = count / width;
  const uint8_t *p = source;
  // A pass over the target for each byte would be as many times the memory traffic.
  switch (width) {
    case 2:
      for (size_t i = 0; i < elements; i++) {
        target[2 * i] = p[i];
        target[2 * i + 1] = p[elements + i];
      }
      break;
    case 4:
      for (size_t i = 0; i < elements; i++) {
        for (size_t b = 0; b < 4; b++) target[4 * i + b] = p[b * elements + i];
      }
      break;
    default:
      for (size_t i = 0; i < elements; i++) {
        for (size_t b = 0; b < 8; b++) target[8 * i + b] = p[b * elements + i];
      }
  }
  memcpy(target + elements * width, source + elements * width, count - elements * width);
}

static size_t width_of(unsigned method) { return (size_t)1 << (method - FLOW_METHOD_ZSTD); }

/// The method that does best on a piece from the middle; raw when none gains 3 %.
static unsigned choose(flow_codec *codec, const uint8_t *source, size_t count) {
  enum { PIECE = 32768, SMALL = 8192 };
  size_t piece = count < PIECE ? count : PIECE;
  const uint8_t *at = source + ((count - piece) / 2 & ~(size_t)63);
  size_t plain = flow_zstd_pack(codec, at, piece, codec->body, sizeof codec->body, 1);
  if (!plain) return FLOW_METHOD_RAW;
  double best = (double)plain / (double)piece;
  unsigned method = best < 0.97 ? FLOW_METHOD_ZSTD : FLOW_METHOD_RAW;
  if (count < 1024) return method;
  size_t small = piece < SMALL ? piece : SMALL;
  for (unsigned m = FLOW_METHOD_SHUFFLE_2; m <= FLOW_METHOD_SHUFFLE_8; m++) {
    shuffle(at, small, width_of(m), codec->shuffled);
    size_t size = flow_zstd_pack(codec, codec->shuffled, small, codec->body, sizeof codec->body, 1);
    double ratio = (double)size / (double)small;
    // Shuffling has to win clearly: it destroys what zstd finds in text.
    if (size && ratio < 0.97 && ratio < best * 0.95) {
      best = ratio;
      method = m;
    }
  }
  return method;
}

size_t flow_codec_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, unsigned width,
                       uint8_t *body, unsigned *method) {
  size_t enough = count - count * 3 / 100;
  size_t size = 0;
  if (channels > 0) {
    int inLanes = width == 2 && channels <= FLOW_CODEC_CHANNELS && LANES_PAY(count / (2 * (size_t)channels));
    size = inLanes ? flow_lanes_pack(codec, source, count, channels, codec->body, sizeof codec->body)
                   : flow_pcm_pack(codec, source, count, channels, width, codec->body, sizeof codec->body);
    *method = inLanes ? FLOW_METHOD_LANES : FLOW_METHOD_PCM;
  } else {
    *method = choose(codec, source, count);
    const uint8_t *bytes = source;
    if (*method > FLOW_METHOD_ZSTD) {
      shuffle(source, count, width_of(*method), codec->shuffled);
      bytes = codec->shuffled;
    }
    if (*method != FLOW_METHOD_RAW) {
      // Shuffled bytes are won by entropy coding; a longer search finds little more.
      int level = *method == FLOW_METHOD_ZSTD ? 3 : 1;
      size = flow_zstd_pack(codec, bytes, count, codec->body, sizeof codec->body, level);
    }
  }
  if (size && size <= enough) {
    memcpy(body, codec->body, size);
    return size;
  }
  *method = FLOW_METHOD_RAW;
  memcpy(body, source, count);
  return count;
}

int flow_codec_unpack(flow_codec *codec, unsigned method, const uint8_t *body, size_t length, uint8_t *target,
                      size_t count) {
  if (count == 0 || count > FLOW_CHUNK_BYTES) return 0;
  switch (method) {
    case FLOW_METHOD_RAW:
      if (length != count) return 0;
      memcpy(target, body, count);
      return 1;
    case FLOW_METHOD_ZSTD: return ZSTD_decompressDCtx(codec->unpacker, target, count, body, length) == count;
    case FLOW_METHOD_SHUFFLE_2:
    case FLOW_METHOD_SHUFFLE_4:
    case FLOW_METHOD_SHUFFLE_8:
      if (ZSTD_decompressDCtx(codec->unpacker, codec->shuffled, count, body, length) != count) return 0;
      unshuffle(codec->shuffled, count, width_of(method), target);
      return 1;
    case FLOW_METHOD_PCM: return flow_pcm_unpack(codec, body, length, target, count);
    case FLOW_METHOD_LANES: return flow_lanes_unpack(codec, body, length, target, count);
    default: return 0;
  }
}
