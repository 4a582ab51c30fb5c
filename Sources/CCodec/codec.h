// What the files of the codec share.
#ifndef FLOW_CODEC_INTERNAL_H
#define FLOW_CODEC_INTERNAL_H

#include <string.h>
#include <zstd.h>

#include "include/CCodec.h"

#if defined(__x86_64__) && defined(__has_attribute)
#define FLOW_CLONES __attribute__((target_clones("arch=haswell", "default")))
#else
#define FLOW_CLONES
#endif

/// Frames that share a predictor and a number of low bits.
#define PCM_BLOCK 4096
/// Samples before a block that its predictor may look at.
#define PCM_HISTORY 4

struct flow_codec {
  ZSTD_CCtx *packer;
  ZSTD_DCtx *unpacker;
  /// The channels of one block, each after its history; in stereo also middle and side.
  int32_t channels[FLOW_CODEC_CHANNELS + 2][PCM_HISTORY + PCM_BLOCK];
  uint32_t residual[PCM_BLOCK];
  /// Byte planes of a chunk, least significant first, and shuffled bytes.
  uint8_t planes[3][FLOW_CHUNK_BYTES / 2 + 64];
  uint8_t shuffled[FLOW_CHUNK_BYTES];
  /// Where a packed body grows: a little more than a chunk, so that the check for gain comes last.
  uint8_t body[FLOW_CHUNK_BYTES * 2];
};

/// One zstd frame of `count` bytes into `room` bytes; 0 when it doesn't fit.
size_t flow_zstd_pack(flow_codec *codec, const uint8_t *source, size_t count, uint8_t *target, size_t room, int level);

/// Bytes as PCM; 0 when they don't get shorter than `room`.
size_t flow_pcm_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, unsigned width,
                     uint8_t *target, size_t room);
int flow_pcm_unpack(flow_codec *codec, const uint8_t *body, size_t length, uint8_t *target, size_t count);

static inline void flow_put_u32(uint8_t *to, size_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> 8 * i);
}

static inline size_t flow_get_u32(const uint8_t *from) {
  return (size_t)from[0] | (size_t)from[1] << 8 | (size_t)from[2] << 16 | (size_t)from[3] << 24;
}

#endif
