#include "flow_cuda_kernels.h"

// The kernels' sources, as the compiler of the device takes them. A new file is an `#embed` and a line in `files`.
static const char prelude[] = {
#embed "kernels/prelude.cuh"
    , 0};
static const char hopper[] = {
#embed "kernels/hopper.cuh"
    , 0};
static const char adamw[] = {
#embed "kernels/adamw.cu"
    , 0};
static const char attention[] = {
#embed "kernels/attention.cu"
    , 0};
static const char attention_back[] = {
#embed "kernels/attention-back.cu"
    , 0};
static const char attention_back_bulk[] = {
#embed "kernels/attention-back-bulk.cu"
    , 0};
static const char attention_bulk[] = {
#embed "kernels/attention-bulk.cu"
    , 0};
static const char attention_float[] = {
#embed "kernels/attention-float.cu"
    , 0};
static const char attention_mask[] = {
#embed "kernels/attention-mask.cu"
    , 0};
static const char attention_numbers[] = {
#embed "kernels/attention-numbers.cu"
    , 0};
static const char attention_slots[] = {
#embed "kernels/attention-slots.cuh"
    , 0};
static const char attention_tiles[] = {
#embed "kernels/attention-tiles.cuh"
    , 0};
static const char axis[] = {
#embed "kernels/axis.cu"
    , 0};
static const char cast[] = {
#embed "kernels/cast.cu"
    , 0};
static const char convolution[] = {
#embed "kernels/convolution.cu"
    , 0};
static const char convolution_phases[] = {
#embed "kernels/convolution-phases.cuh"
    , 0};
static const char ctc[] = {
#embed "kernels/ctc.cu"
    , 0};
static const char fourier[] = {
#embed "kernels/fourier.cu"
    , 0};
static const char indexing[] = {
#embed "kernels/indexing.cu"
    , 0};
static const char lstm[] = {
#embed "kernels/lstm.cu"
    , 0};
static const char move[] = {
#embed "kernels/move.cu"
    , 0};
static const char narrow[] = {
#embed "kernels/narrow.cu"
    , 0};
static const char overlap[] = {
#embed "kernels/overlap.cu"
    , 0};
static const char partials[] = {
#embed "kernels/partials.cu"
    , 0};
static const char pool[] = {
#embed "kernels/pool.cu"
    , 0};
static const char random[] = {
#embed "kernels/random.cu"
    , 0};
static const char rows[] = {
#embed "kernels/rows.cu"
    , 0};
static const char scatter[] = {
#embed "kernels/scatter.cu"
    , 0};
static const char snake[] = {
#embed "kernels/snake.cu"
    , 0};
static const char snake_tiles[] = {
#embed "kernels/snake-tiles.cu"
    , 0};
static const char sum[] = {
#embed "kernels/sum.cu"
    , 0};
static const char transpose[] = {
#embed "kernels/transpose.cu"
    , 0};
static const char channels_last[] = {
#embed "kernels/channels_last.cu"
    , 0};
static const char splits[] = {
#embed "kernels/splits.cu"
    , 0};
static const char wide_products[] = {
#embed "kernels/wide-products.cuh"
    , 0};
static const char wide[] = {
#embed "kernels/wide.cu"
    , 0};
static const char wide_weight[] = {
#embed "kernels/wide_weight.cu"
    , 0};
static const char near[] = {
#embed "kernels/near.cu"
    , 0};
static const char trial[] = {
#embed "kernels/trial.cu"
    , 0};
static const char skinny[] = {
#embed "kernels/skinny.cu"
    , 0};

// `before`: the files whose texts stand before this one's, with '+' between their names; none when null.
static const struct file {
  const char *name, *text, *before;
} files[] = {
    {"prelude.cuh", prelude},
    {"hopper.cuh", hopper},
    {"adamw.cu", adamw},
    {"attention.cu", attention, "attention-tiles.cuh"},
    {"attention-back.cu", attention_back, "attention-tiles.cuh"},
    {"attention-back-bulk.cu", attention_back_bulk, "attention-tiles.cuh+attention-slots.cuh"},
    {"attention-bulk.cu", attention_bulk, "attention-tiles.cuh+attention-slots.cuh"},
    {"attention-float.cu", attention_float},
    {"attention-mask.cu", attention_mask},
    {"attention-numbers.cu", attention_numbers},
    {"attention-slots.cuh", attention_slots},
    {"attention-tiles.cuh", attention_tiles},
    {"axis.cu", axis},
    {"cast.cu", cast},
    {"convolution.cu", convolution},
    {"convolution-phases.cuh", convolution_phases},
    {"ctc.cu", ctc},
    {"fourier.cu", fourier},
    {"indexing.cu", indexing},
    {"lstm.cu", lstm},
    {"move.cu", move},
    {"narrow.cu", narrow},
    {"overlap.cu", overlap},
    {"partials.cu", partials},
    {"pool.cu", pool},
    {"random.cu", random},
    {"rows.cu", rows},
    {"scatter.cu", scatter},
    {"snake.cu", snake},
    {"snake-tiles.cu", snake_tiles, "snake.cu"},
    {"sum.cu", sum},
    {"transpose.cu", transpose},
    {"channels_last.cu", channels_last},
    {"splits.cu", splits},
    {"wide-products.cuh", wide_products},
    {"wide.cu", wide, "convolution-phases.cuh+wide-products.cuh"},
    {"wide_weight.cu", wide_weight, "wide-products.cuh"},
    {"near.cu", near, "convolution-phases.cuh"},
    {"trial.cu", trial},
    {"skinny.cu", skinny},
};

static const struct file *find(const char *name) {
  for (unsigned long i = 0; i < sizeof files / sizeof *files; i++)
    if (!__builtin_strcmp(files[i].name, name)) return &files[i];
  return 0;
}

const char *flow_cuda_source(const char *name) {
  const struct file *file = find(name);
  return file ? file->text : 0;
}

const char *flow_cuda_before(const char *name) {
  const struct file *file = find(name);
  return file && file->before ? file->before : "";
}
