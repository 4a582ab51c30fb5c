#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "include/CProcess.h"

// A file that is cut short while it is mapped leaves pages that end the process when they are read. The handler puts
// zeros there instead and marks the mapping; whoever read looks at the mark before believing what was read.

enum { MAPS = 1024 };

static struct {
  _Atomic uintptr_t base;
  _Atomic size_t count;
  atomic_int torn;
} maps[MAPS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;
static uintptr_t page_size;

// Only atomics and two system calls, so it may run at any time.
static void on_bus_error(int number, siginfo_t *info, void *context) {
  (void)context;
  int kept = errno;
  uintptr_t at = (uintptr_t)info->si_addr;
  for (int i = 0; i < MAPS; i++) {
    uintptr_t base = atomic_load(&maps[i].base);
    if (base == 0 || at < base || at - base >= atomic_load(&maps[i].count)) continue;
    uintptr_t page = at & ~(page_size - 1);
    size_t rest = base + atomic_load(&maps[i].count) - page;
    void *zeros = mmap((void *)page, rest, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    atomic_store(&maps[i].torn, 1);
    errno = kept;
    return;
  }
  // Not one of ours: the access is tried again, and meets what was in charge before.
  sigaction(number, &before, NULL);
}

static void install(void) {
  page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
  struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &before);
}

const void *flow_map(int file, size_t count) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install);
  pthread_mutex_lock(&lock);
  int free = 0;
  while (free < MAPS && atomic_load(&maps[free].base) != 0) free++;
  void *base = MAP_FAILED;
  if (free == MAPS) {
    errno = ENFILE;
  } else {
    base = mmap(NULL, count, PROT_READ, MAP_PRIVATE, file, 0);
  }
  if (base != MAP_FAILED) {
    atomic_store(&maps[free].torn, 0);
    atomic_store(&maps[free].count, count);
    atomic_store(&maps[free].base, (uintptr_t)base);
  }
  pthread_mutex_unlock(&lock);
  return base == MAP_FAILED ? NULL : base;
}

int flow_map_is_torn(const void *base) {
  for (int i = 0; i < MAPS; i++)
    if (atomic_load(&maps[i].base) == (uintptr_t)base) return atomic_load(&maps[i].torn);
  return 0;
}

void flow_unmap(const void *base, size_t count) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAPS; i++)
    if (atomic_load(&maps[i].base) == (uintptr_t)base) atomic_store(&maps[i].base, 0);
  munmap((void *)(uintptr_t)base, count);
  pthread_mutex_unlock(&lock);
}
