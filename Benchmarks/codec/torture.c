// Hostile packed sound, built and run by scripts/torture-codec under AddressSanitizer and UndefinedBehaviorSanitizer:
//   torture N SEED: N bodies, each of sound packed in one of the ways, then damaged (every eighth is left whole, and
// must come back). Bodies and targets have exactly the size that is claimed, so that a byte too far is an error.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CCodec.h"

static uint64_t state;

static uint64_t draw(uint64_t below) {
  // SplitMix64 (Steele, Lea and Flood, 2014).
  uint64_t x = state += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return (x ^ x >> 31) % below;
}

/// Sound of a kind, in samples of `width` bytes.
static size_t sound(uint8_t *to, size_t most, unsigned channels, unsigned width) {
  static const size_t lengths[] = {1, 7, 512, 4095, 4097, 8191, 8192, 8193, 16384, 16449, 20000, 65600};
  size_t frames = lengths[draw(sizeof lengths / sizeof *lengths)] + draw(3);
  size_t count = frames * channels * width + draw(3);
  if (count > most) count = most;
  unsigned kind = (unsigned)draw(5), shift = draw(3) ? 0 : (unsigned)draw(10);
  double pitch = 0.001 + (double)draw(3000) / 1000;
  double loud = (double)(1 << draw(8 * width)), noise = (double)(1 << draw(10));
  for (size_t i = 0; i < count; i++) {
    size_t sample = i / width, frame = sample / channels;
    double x = kind == 0   ? 0
               : kind == 1 ? loud * sin((double)frame * pitch)
               : kind == 2 ? loud * sin((double)frame * pitch) + noise * ((double)(sample * 2654435761u % 1000) / 1000)
               : kind == 3 ? (frame / 100 % 2 ? loud : -loud)
                           : (double)(int64_t)draw(1 << 16);
    to[i] = (uint8_t)((uint64_t)(int64_t)x >> shift << shift >> 8 * (i % width));
  }
  return count;
}

static size_t damage(uint8_t *body, size_t length, size_t most) {
  for (uint64_t times = 1 + draw(4); times > 0; times--) {
    // Half of it near the front, where lengths, orders and coefficients are.
    size_t at = draw(2) ? draw(length) : draw(length < 400 ? length : 400);
    switch (draw(6)) {
      case 0: body[at] ^= (uint8_t)(1 << draw(8)); break;
      case 1: body[at] = (uint8_t)draw(256); break;
      case 2: body[at] = draw(2) ? 0xFF : 0; break;
      case 3: length = at + 1; break;
      case 4:
        for (size_t i = at; i < length && i < at + 64; i++) body[i] = (uint8_t)draw(256);
        break;
      default:
        for (uint64_t i = draw(64); i > 0 && length < most; i--) body[length++] = (uint8_t)draw(256);
    }
  }
  return length;
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "torture N SEED\n"), 2;
  unsigned long n = strtoul(argv[1], NULL, 10), whole = 0, refused = 0, taken = 0, methods[7] = {0};
  state = strtoull(argv[2], NULL, 10);
  flow_codec *codec = flow_codec_make();
  static uint8_t source[FLOW_CHUNK_BYTES], packed[FLOW_CHUNK_BYTES + 64], good[FLOW_CHUNK_BYTES];
  size_t count = 0, length = 0;
  unsigned method = 0;
  for (unsigned long i = 0; i < n; i++) {
    if (i % 8 == 0) {
      unsigned channels = 1 + (unsigned)draw(FLOW_CODEC_CHANNELS), width = draw(3) ? 2 : 3;
      count = sound(source, sizeof source, channels, width);
      length = flow_codec_pack(codec, source, count, channels, width, good, &method);
    }
    memcpy(packed, good, length);
    size_t claimed = count, size = length;
    unsigned how = method;
    if (i % 8 != 0) {
      size = damage(packed, length, sizeof packed);
      if (draw(8) == 0) claimed = 1 + draw(FLOW_CHUNK_BYTES);
      if (draw(16) == 0) how = (unsigned)draw(8);
    }
    uint8_t *body = malloc(size), *target = malloc(claimed);
    if (!body || !target) return fprintf(stderr, "no memory\n"), 2;
    memcpy(body, packed, size);
    int isWhole = flow_codec_unpack(codec, how, body, size, target, claimed);
    if (i % 8 == 0) {
      if (!isWhole || memcmp(target, source, count) != 0) {
        return fprintf(stderr, "body %lu came back otherwise\n", i), 1;
      }
      whole++;
      methods[method]++;
    } else if (isWhole) {
      taken++;
    } else {
      refused++;
    }
    free(body);
    free(target);
  }
  flow_codec_free(codec);
  printf("%lu bodies: %lu whole and back as they were (%lu raw, %lu in polynomials, %lu in lanes), "
         "%lu damaged ones refused, %lu taken for other sound, 0 crashes\n",
         n, whole, methods[FLOW_METHOD_RAW], methods[FLOW_METHOD_PCM], methods[FLOW_METHOD_LANES], refused, taken);
  return 0;
}
