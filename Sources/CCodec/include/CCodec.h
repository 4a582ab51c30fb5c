#ifndef FLOW_CODEC_H
#define FLOW_CODEC_H

#include <stddef.h>
#include <stdint.h>

/// The longest chunk, bytes before packing.
#define FLOW_CHUNK_BYTES (1 << 20)
/// The most channels that are told apart.
#define FLOW_CODEC_CHANNELS 8

/// Working memory of one thread.
typedef struct flow_codec flow_codec;

/// How a chunk was packed.
enum flow_method {
  FLOW_METHOD_RAW = 0,
  FLOW_METHOD_ZSTD = 1,
  FLOW_METHOD_SHUFFLE_2 = 2,
  FLOW_METHOD_SHUFFLE_4 = 3,
  FLOW_METHOD_SHUFFLE_8 = 4,
  /// Sound of up to 24 bits, and short pieces, predicted by polynomials.
  FLOW_METHOD_PCM = 5,
  /// 16-bit sound, predicted linearly.
  FLOW_METHOD_LANES = 6,
};

/// Working memory, or NULL when there is none.
flow_codec *flow_codec_make(void);
void flow_codec_free(flow_codec *codec);

/// Packs the `count` bytes at `source` (1 to FLOW_CHUNK_BYTES) into `body`, which has room for as many, and says how in
/// `method`. With `channels` > 0 they are taken for interleaved little-endian integers of `width` bytes (2 or 3),
/// beginning with the first channel; whatever they are, they come back exactly. Returns the bytes written, `count` at most.
size_t flow_codec_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, unsigned width,
                       uint8_t *body, unsigned *method);

/// Unpacks the `length` bytes at `body` into exactly `count` bytes (1 to FLOW_CHUNK_BYTES) at `target`. Returns 0 when
/// they are damaged; never reads or writes outside what it is given, whatever the bytes are.
int flow_codec_unpack(flow_codec *codec, unsigned method, const uint8_t *body, size_t length, uint8_t *target,
                      size_t count);

#endif
