/* Adds one weighted tile of logits to an accumulator. */
#ifndef SGMF_BLEND_TILE_H_
#define SGMF_BLEND_TILE_H_

#include <stdint.h>

#include "sgmf/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Both boxes have `extent` voxels; strides count elements, rows are contiguous. The product
 * is rounded to float32 before it is added, so that the order of operations is that of
 * `accumulator += logits * weights`. Pointers are borrowed and may not overlap. */
typedef struct sgmf_blend_tile_args {
  int64_t channels;
  int64_t extent[3];
  const float* logits;
  int64_t logits_stride[3];      /* channel, depth, height */
  const float* weights;
  int64_t weights_stride[2];     /* depth, height */
  float* accumulator;
  int64_t accumulator_stride[3]; /* channel, depth, height */
} sgmf_blend_tile_args;

/* Returns NULL, or a static text that says what is wrong. `threads` as in selective_scan.h. */
SGMF_API const char* sgmf_blend_tile(const sgmf_blend_tile_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
