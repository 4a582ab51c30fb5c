// Lanes: a chunk of 16-bit samples cut into eight pieces of equal length, each predicted by itself. A linear
// prediction needs the sample before, so one lane can't be decoded faster than that dependence allows; eight at a
// time, one in each element of a vector, take no longer than one. Blocks of a lane have a predictor each (lpc.c). A
// quarter of a block, a part, has a loudness: its lowest bits, being noise, are packed as they are, and the rest goes
// to the plane of its kind, which zstd's Huffman coder packs.
//
// A body: channels, shift (zero bits at the low end of every sample), the lengths of the planes (u32 each: 0 all zero,
// its number of bytes: as it is); in stereo the pair of each lane; per row of blocks, channel and lane: order, the
// loudness of the four parts, and if the order isn't 0 scale and coefficients (i16 each); low bits; planes of the
// kinds; the plane of the bits above those, of all parts; bytes that fill no frame. The last lane ends in zeros that
// are no samples. The first LANE_ORDER samples of a lane are as they are. Arithmetic is modulo 2^16 of samples and 2^32
// of sums, so any bytes decode to something.
#ifndef FLOW_LANES_H
#define FLOW_LANES_H

#include "codec.h"

/// Loudness below QUIET: no low bits; a plane for each step of the mean residual, by the root of two. From there on:
/// twice the number of low bits, plus one in the louder half of what leaves a mean of LOUD to twice that above them; a
/// plane a half.
enum { QUIET = 10, LOUD = 24, KINDS = QUIET + 2, PLANES = KINDS + 1, HEADER = 2 + 4 * PLANES };
/// The parts of a block.
enum { PARTS = LANE_BLOCK / LANE_PART };

static inline unsigned low_of(unsigned loudness) { return loudness < QUIET ? 0 : (loudness - QUIET) / 2; }
static inline unsigned kind_of(unsigned loudness) {
  return loudness < QUIET ? loudness : QUIET + (loudness - QUIET) % 2;
}

typedef struct {
  unsigned channels;
  size_t frames, lane, samples, rest;
} lane_shape;

static inline lane_shape lanes_of(size_t count, unsigned channels) {
  lane_shape s = {.channels = channels, .frames = count / (2 * (size_t)channels)};
  s.lane = (s.frames + LANES * LANES - 1) / (LANES * LANES) * LANES;
  s.samples = s.lane * LANES * channels;
  s.rest = count - s.frames * channels * 2;
  return s;
}

/// How many of the samples from `from` on, in lane `lane`, are there.
static inline size_t lane_present(const lane_shape *s, size_t lane, size_t from, size_t count) {
  size_t start = lane * s->lane + from;
  size_t left = start < s->frames ? s->frames - start : 0;
  return left < count ? left : count;
}

#endif
