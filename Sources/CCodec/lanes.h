// Lanes: a chunk of 16-bit samples cut into eight pieces of equal length, each predicted by itself. A linear prediction needs
// the sample before, so one lane can't be decoded faster than that dependence allows; eight at a time, one in each element of
// a vector, take no longer than one. Blocks of a lane have a predictor each (lpc.c) and, per part, a number of low bits;
// residuals are packed as those of polynomials are (planes.c).
//
// A body: channels, shift (zero bits at the low end of every sample), the lengths of the two planes; in stereo the pair of
// each lane; per row of blocks, channel and lane: order, low bits of the four parts (four bits each), and if the order isn't 0
// scale and coefficients (i16 each); low bits; planes; bytes that fill no frame. The last lane ends in zeros that are no
// samples. The first LANE_ORDER samples of a lane are as they are. Arithmetic is modulo 2^16 of samples and 2^32 of sums, so
// any bytes decode to something.
#ifndef FLOW_LANES_H
#define FLOW_LANES_H

#include "codec.h"

enum { PLANES = 2, HEADER = 2 + 4 * PLANES, PARTS = LANE_BLOCK / LANE_PART };

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
