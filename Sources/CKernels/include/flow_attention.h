#ifndef FLOW_ATTENTION_H
#define FLOW_ATTENTION_H

#include <stdint.h>

/// q [batch, heads, queries, width], k and v [batch, heads, keys, width],
/// mask [mask_batch, mask_heads, queries, keys] (not 0 = may attend).
typedef struct {
  long batch, heads, queries, keys, width, mask_batch, mask_heads;
  float scale;
} flow_attention_size;

/// `work` holds the keys of all heads, transposed and filled up to 64 (for the gradients, the values too).
/// y like q; logs [batch, heads, queries]: the logarithm of each row's sum of exponentials.
void flow_attention(int threads, flow_attention_size s, float *y, float *logs, const float *q, const float *k,
                    const float *v, const uint8_t *mask, float *work);
/// The gradients of q, k, v from `result` (y), `logs` and the gradient g of y.
void flow_attention_back(int threads, flow_attention_size s, float *dq, float *dk, float *dv, const float *q,
                         const float *k, const float *v, const uint8_t *mask, const float *result, const float *logs,
                         const float *g, float *work);

/// Uniform in [0, 1), or standard normal; key: seed and step.
void flow_random(int threads, float *y, long count, const int *key, unsigned stream, int normal);

#endif
