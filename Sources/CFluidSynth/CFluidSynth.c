#include "CFluidSynth.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static const char *const names[] = {"libfluidsynth.so.3", "libfluidsynth.so.2", "libfluidsynth.so"};
static flow_fluidsynth functions;
static char failure[512];
static int is_open;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_library(void) {
  void *library = NULL;
  int used = 0;
  for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]) && !library; i++) {
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library && used < (int)sizeof(failure))
      used += snprintf(failure + used, sizeof(failure) - used, "%s%s", i ? "; " : "", dlerror());
  }
  if (!library) return;
#define FLOW_LOAD(name)                                                                                              \
  if (!(*(void **)&functions.name = dlsym(library, #name))) {                                                       \
    snprintf(failure, sizeof(failure), "it has no " #name);                                                          \
    return;                                                                                                          \
  }
  FLOW_FLUID_FUNCTIONS(FLOW_LOAD)
#undef FLOW_LOAD
  is_open = 1;
}

const flow_fluidsynth *flow_fluidsynth_open(char *reason, int capacity) {
  pthread_once(&once, open_library);
  if (is_open) return &functions;
  snprintf(reason, capacity, "%s", failure);
  return NULL;
}
