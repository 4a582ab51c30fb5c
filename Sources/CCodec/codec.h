// What the files of the codec share.
#ifndef FLOW_CODEC_INTERNAL_H
#define FLOW_CODEC_INTERNAL_H

#include <string.h>
#include <zstd.h>

#include "include/CCodec.h"

#if defined(__x86_64__) && defined(__has_attribute)
/// Chosen by what the CPU can do; "arch=haswell" would ask whether it is Intel's.
#define FLOW_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define FLOW_CLONES
#endif

/// Polynomials: frames that share a predictor and a number of low bits.
#define PCM_BLOCK 4096
/// Samples before such a block that its predictor may look at.
#define PCM_HISTORY 4

/// Lanes: pieces of a chunk whose samples are predicted side by side, each in an element of a vector.
#define LANES 8
/// Samples of a lane that share coefficients, and those that share a loudness.
#define LANE_BLOCK 2048
#define LANE_PART 512
/// The most coefficients.
#define LANE_ORDER 16
/// Whether linear prediction pays for so many frames: a lane is worth half a block then.
#define LANES_PAY(frames) ((frames) >= LANES * LANE_BLOCK / 2)
/// From one lane to the next: not a power of two, which would have them all in the same set of the CPU's cache.
#define LANE_STRIDE (LANE_BLOCK + 32)
/// What lanes of equal length hold beyond a channel's samples, at most.
#define LANE_EXCESS (LANES * LANES)

struct flow_codec {
  ZSTD_CCtx *packer;
  ZSTD_DCtx *unpacker;
  /// The channels of one block, each after its history; in stereo also middle and side.
  int32_t channels[FLOW_CODEC_CHANNELS + 2][LANE_ORDER + PCM_BLOCK];
  uint32_t residual[PCM_BLOCK];
  /// A block of every lane, per channel.
  uint16_t lanes[FLOW_CODEC_CHANNELS][LANES * LANE_STRIDE];
  /// Byte planes of a chunk, least significant first, and shuffled bytes.
  uint8_t planes[3][FLOW_CHUNK_BYTES / 2 + FLOW_CODEC_CHANNELS * LANE_EXCESS];
  uint8_t shuffled[FLOW_CHUNK_BYTES];
  /// The loudness of the parts of all blocks of lanes.
  uint8_t parts[FLOW_CHUNK_BYTES / 2 / LANE_PART + LANES * FLOW_CODEC_CHANNELS * LANE_BLOCK / LANE_PART];
  /// Where a packed body grows: a little more than a chunk, so that the check for gain comes last.
  uint8_t body[FLOW_CHUNK_BYTES * 2];
};

/// One zstd frame of `count` bytes into `room` bytes; 0 when it doesn't fit.
size_t flow_zstd_pack(flow_codec *codec, const uint8_t *source, size_t count, uint8_t *target, size_t room, int level);

/// Bytes predicted by polynomials; 0 when they don't get shorter than `room`.
size_t flow_pcm_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, unsigned width,
                     uint8_t *target, size_t room);
int flow_pcm_unpack(flow_codec *codec, const uint8_t *body, size_t length, uint8_t *target, size_t count);

/// 16-bit samples predicted in lanes, where `LANES_PAY`; 0 when they don't get shorter than `room`.
size_t flow_lanes_pack(flow_codec *codec, const uint8_t *source, size_t count, unsigned channels, uint8_t *target,
                       size_t room);
int flow_lanes_unpack(flow_codec *codec, const uint8_t *body, size_t length, uint8_t *target, size_t count);

/// The predictor of a block: `order` coefficients, in units of 2^-scale.
typedef struct {
  unsigned order, scale;
  int32_t coefficients[LANE_ORDER];
} lpc_predictor;

/// The bits behind the binary point of the predictions of lanes, and so the largest scale.
#define LPC_POINT 14

/// The predictor that takes the fewest bits for `count` samples (at most LANE_BLOCK) with itself.
lpc_predictor flow_lpc_analyse(const int32_t *x, size_t count);
/// Zigzag residuals of 16 bits; `x` has LANE_ORDER samples before it.
void flow_lpc_residuals(const int32_t *x, size_t count, const lpc_predictor *predictor, uint32_t *v);

/// One channel out of interleaved samples, each shifted down by `shift`, and back.
void flow_take_apart(const uint8_t *source, size_t frames, unsigned channels, unsigned width, unsigned channel,
                     unsigned shift, int32_t *to);
void flow_put_together(const int32_t *from, size_t frames, unsigned channels, unsigned width, unsigned channel,
                       unsigned shift, uint8_t *target);
/// The bits at the low end that are zero in all samples.
unsigned flow_zero_bits(const uint8_t *source, size_t bytes, unsigned width);

/// The pairs of stereo: which two of left, right, middle, side are kept.
enum { LEFT_RIGHT, LEFT_SIDE, SIDE_RIGHT, MIDDLE_SIDE };
extern const uint8_t flow_pair_members[4][2];
/// Middle and side by lifting, which undoes itself modulo 2^bits.
void flow_middle_and_side(const int32_t *l, const int32_t *r, size_t count, unsigned bits, int32_t *m, int32_t *s);
/// Left and right from what `pair` kept in `a` and `b`.
void flow_left_and_right(unsigned pair, int32_t *a, int32_t *b, size_t count, unsigned bits);
/// The pair for which the sums of the residuals of left, right, middle and side promise the fewest bits.
unsigned flow_best_pair(const uint64_t sums[4]);

/// The order of the polynomial whose residuals are smallest, and their sum in units of 2^scale; `x` has PCM_HISTORY
/// samples before it.
uint64_t flow_polynomial(const int32_t *x, size_t frames, unsigned scale, unsigned *order);

/// How many of the lowest bits are as good as noise: what is left above them has a mean of `least` to twice that, which
/// a byte nearly always holds and Huffman codes describe well.
unsigned flow_noisy_bits(const uint32_t *v, size_t count, unsigned least, unsigned most);
/// The bytes that low bits take: whole groups of eight, so that packing needs no tail.
static inline size_t flow_low_bytes(size_t count, unsigned low) { return (count + 7) / 8 * low; }
/// The lowest `low` bits of `v`, which holds whole groups of eight: a plane of bytes for eight of them, then the rest.
uint8_t *flow_put_low(const uint32_t *v, size_t groups, unsigned low, uint8_t *to);
/// The inverse of `flow_put_low`, which sets `v`.
const uint8_t *flow_get_low(uint32_t *v, size_t groups, unsigned low, const uint8_t *from);
/// The same for `low` up to 8.
void flow_low_as_bytes(uint8_t *bytes, size_t groups, unsigned low, const uint8_t *from);
/// The byte above `shift` bits into a plane, and back.
void flow_put_plane(const uint32_t *v, size_t count, unsigned shift, uint8_t *to);
void flow_get_plane(uint32_t *v, size_t count, unsigned shift, const uint8_t *from);

/// Writes `samples` bytes of a plane to `to` and how many they became (u32; 0: all zero, `samples`: as they are) to
/// `size`; where they end, or NULL when `end` is too near.
uint8_t *flow_pack_plane(flow_codec *codec, const uint8_t *plane, size_t samples, uint8_t *size, uint8_t *to,
                         const uint8_t *end);
/// Reads a plane from `at`, which moves on. Returns 0 when it is damaged.
int flow_unpack_plane(flow_codec *codec, uint8_t *plane, size_t samples, const uint8_t *size, const uint8_t *body,
                      size_t length, size_t *at);

static inline int32_t flow_wrap(uint32_t x, unsigned bits) { return (int32_t)(x << (32 - bits)) >> (32 - bits); }

static inline void flow_put_u32(uint8_t *to, size_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> 8 * i);
}

static inline size_t flow_get_u32(const uint8_t *from) {
  return (size_t)from[0] | (size_t)from[1] << 8 | (size_t)from[2] << 16 | (size_t)from[3] << 24;
}

#endif
