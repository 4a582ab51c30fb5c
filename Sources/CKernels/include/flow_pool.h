#ifndef FLOW_POOL_H
#define FLOW_POOL_H

#include <stddef.h>

/// Work on the half-open range [begin, end).
typedef void (*flow_range_fn)(void *context, long begin, long end);

/// Calls `body` on consecutive ranges of `grain` (the last may be shorter) that cover [0, count), on up to
/// `threads` threads. The ranges do not depend on the number of threads.
void flow_parallel(int threads, long count, long grain, flow_range_fn body, void *context);

/// At least `floats` floats of memory that belongs to the calling thread until its next call with the same slot (0..3).
float *flow_scratch(int slot, size_t floats);

/// Names what is computed from now on, NULL for nothing; the text must stay until the next call.
void flow_set_step(const char *label);
/// Says that `bytes` could not be had for that, and ends the process.
_Noreturn void flow_out_of_memory(size_t bytes);

#endif
