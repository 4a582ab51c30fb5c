// FluidSynth, opened when it is first used: it brings some forty libraries (sound servers, desktop ones) that would cost
// every start of flow 6 ms. Types come from its header, so a changed prototype doesn't compile.
#ifndef FLOW_CFLUIDSYNTH_H
#define FLOW_CFLUIDSYNTH_H

#include <fluidsynth.h>

#define FLOW_FLUID_FUNCTIONS(X)                                                                                      \
  X(fluid_version_str)                                                                                               \
  X(fluid_set_log_function)                                                                                          \
  X(new_fluid_settings)                                                                                              \
  X(delete_fluid_settings)                                                                                           \
  X(fluid_settings_setnum)                                                                                           \
  X(fluid_settings_setint)                                                                                           \
  X(new_fluid_synth)                                                                                                 \
  X(delete_fluid_synth)                                                                                              \
  X(fluid_synth_sfload)                                                                                              \
  X(fluid_synth_program_change)                                                                                      \
  X(fluid_synth_noteon)                                                                                              \
  X(fluid_synth_noteoff)                                                                                             \
  X(fluid_synth_write_float)

/// The functions that flow calls.
typedef struct {
#define FLOW_FIELD(name) __typeof__(&name) name;
  FLOW_FLUID_FUNCTIONS(FLOW_FIELD)
#undef FLOW_FIELD
} flow_fluidsynth;

/// Opens the library. NULL when it can't; then `reason` (of `capacity` bytes) says why, with every name tried.
const flow_fluidsynth *flow_fluidsynth_open(char *reason, int capacity);

#endif
