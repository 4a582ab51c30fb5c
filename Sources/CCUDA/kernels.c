#include "flow_cuda_kernels.h"

// The kernels' sources, as the compiler of the device takes them. A new file is two lines here.
static const char prelude[] = {
#embed "kernels/prelude.cuh"
    , 0};
static const char convolution[] = {
#embed "kernels/convolution.cu"
    , 0};
static const char partials[] = {
#embed "kernels/partials.cu"
    , 0};
static const char snake[] = {
#embed "kernels/snake.cu"
    , 0};

static const struct {
  const char *name, *text;
} files[] = {
    {"prelude", prelude},
    {"convolution", convolution},
    {"partials", partials},
    {"snake", snake},
};

const char *flow_cuda_source(const char *name) {
  for (unsigned long i = 0; i < sizeof files / sizeof *files; i++)
    if (!__builtin_strcmp(files[i].name, name)) return files[i].text;
  return 0;
}
