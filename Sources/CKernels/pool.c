#include "include/flow_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

// One pool for the process. A job is published under the mutex; ranges are handed out by an atomic counter.

enum { MAX_WORKERS = 255 };

static struct {
  pthread_mutex_t mutex, owner;
  pthread_cond_t wake, done;
  int workers, wanted, busy;
  unsigned long generation;
  flow_range_fn body;
  void *context;
  long count, grain;
  _Atomic long next;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .owner = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int inside;

static void drain(void) {
  for (;;) {
    long index = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
    long begin = index * pool.grain;
    if (begin >= pool.count) return;
    long end = begin + pool.grain < pool.count ? begin + pool.grain : pool.count;
    pool.body(pool.context, begin, end);
  }
}

static void *work(void *argument) {
  int number = (int)(size_t)argument;
  unsigned long seen = 0;
  inside = 1;
  pthread_mutex_lock(&pool.mutex);
  for (;;) {
    while (pool.generation == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
    seen = pool.generation;
    if (number >= pool.wanted) continue;
    pthread_mutex_unlock(&pool.mutex);
    drain();
    pthread_mutex_lock(&pool.mutex);
    if (--pool.busy == 0) pthread_cond_signal(&pool.done);
  }
  return NULL;
}

void flow_parallel(int threads, long count, long grain, flow_range_fn body, void *context) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  long ranges = (count + grain - 1) / grain;
  if (threads > ranges) threads = (int)ranges;
  // A range that itself asks for threads, or a second caller at the same time, runs its ranges in order.
  if (threads <= 1 || inside || pthread_mutex_trylock(&pool.owner) != 0) {
    for (long begin = 0; begin < count; begin += grain)
      body(context, begin, begin + grain < count ? begin + grain : count);
    return;
  }
  int helpers = threads - 1 < MAX_WORKERS ? threads - 1 : MAX_WORKERS;
  pthread_mutex_lock(&pool.mutex);
  while (pool.workers < helpers) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, (void *)(size_t)pool.workers) != 0) break;
    pthread_detach(thread);
    pool.workers++;
  }
  if (helpers > pool.workers) helpers = pool.workers;
  pool.body = body;
  pool.context = context;
  pool.count = count;
  pool.grain = grain;
  pool.wanted = pool.busy = helpers;
  atomic_store(&pool.next, 0);
  pool.generation++;
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.mutex);
  inside = 1;
  drain();
  inside = 0;
  pthread_mutex_lock(&pool.mutex);
  while (pool.busy > 0) pthread_cond_wait(&pool.done, &pool.mutex);
  pthread_mutex_unlock(&pool.mutex);
  pthread_mutex_unlock(&pool.owner);
}

static const char *_Atomic step;

void flow_set_step(const char *label) { atomic_store_explicit(&step, label, memory_order_relaxed); }

void flow_out_of_memory(size_t bytes) {
  // Ranges run on many threads, none of which can go on: the worker process ends, the run does not.
  const char *label = atomic_load(&step);
  fprintf(stderr, "flow: out of memory: %zu more bytes were needed as scratch memory of %s\n", bytes,
          label != NULL ? label : "a kernel");
  abort();
}

float *flow_scratch(int slot, size_t floats) {
  static _Thread_local float *memory[4];
  static _Thread_local size_t size[4];
  if (floats > size[slot]) {
    free(memory[slot]);
    size_t bytes = (floats * sizeof(float) + 4095) / 4096 * 4096;
    memory[slot] = aligned_alloc(64, bytes);
    if (memory[slot] == NULL) flow_out_of_memory(bytes);
    size[slot] = bytes / sizeof(float);
  }
  return memory[slot];
}
