#include "flow_cuda_kernels.h"

// The kernels' sources, as the compiler of the device takes them. A new file is two lines here.
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
static const char axis[] = {
#embed "kernels/axis.cu"
    , 0};
static const char cast[] = {
#embed "kernels/cast.cu"
    , 0};
static const char convolution[] = {
#embed "kernels/convolution.cu"
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

static const struct {
  const char *name, *text;
} files[] = {
    {"prelude", prelude},
    {"hopper", hopper},
    {"adamw", adamw},
    {"attention", attention},
    {"attention-back", attention_back},
    {"attention-back-bulk", attention_back_bulk},
    {"attention-bulk", attention_bulk},
    {"attention-float", attention_float},
    {"attention-mask", attention_mask},
    {"attention-numbers", attention_numbers},
    {"axis", axis},
    {"cast", cast},
    {"convolution", convolution},
    {"ctc", ctc},
    {"fourier", fourier},
    {"indexing", indexing},
    {"lstm", lstm},
    {"move", move},
    {"narrow", narrow},
    {"overlap", overlap},
    {"partials", partials},
    {"pool", pool},
    {"random", random},
    {"rows", rows},
    {"scatter", scatter},
    {"snake", snake},
    {"snake-tiles", snake_tiles},
    {"sum", sum},
    {"transpose", transpose},
    {"channels_last", channels_last},
    {"splits", splits},
    {"wide", wide},
    {"wide_weight", wide_weight},
    {"near", near},
    {"trial", trial},
    {"skinny", skinny},
};

const char *flow_cuda_source(const char *name) {
  for (unsigned long i = 0; i < sizeof files / sizeof *files; i++)
    if (!__builtin_strcmp(files[i].name, name)) return files[i].text;
  return 0;
}
