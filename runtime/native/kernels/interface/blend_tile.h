/* Sums of weighted tiles, and their means.
 *
 * Sums lie in lines: a line holds one row of voxels along width in every channel. Lines lie
 * anywhere, so that those of finished voxels can be used again for others.
 */
#ifndef SGMF_BLEND_TILE_H_
#define SGMF_BLEND_TILE_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Strides count elements; rows are contiguous. The product is rounded to float32 before it is
 * added, so that the order of operations is that of `sum += logits * weights`. Pointers are
 * borrowed and may not overlap. */
typedef struct sgmf_blend_tile_args {
  int64_t channels;
  int64_t extent[3]; /* depth, height, width */
  const float* logits;
  int64_t logits_stride[3]; /* channel, depth, height */
  const float* weights;
  int64_t weights_stride[2]; /* depth, height */
  float* const* lines;       /* (depth, height): where the first channel's row begins */
  int64_t channel_stride;    /* from a channel's row to the next one's */
} sgmf_blend_tile_args;

/* Returns NULL, or a static text that says what is wrong. NaN and infinity among the logits are an
 * error, after which the sums are undefined. `threads` as in selective_scan.h. */
SGMF_API const char* sgmf_blend_tile(const sgmf_blend_tile_args* args, int32_t threads);

typedef struct sgmf_divide_lines_args {
  int64_t channels;
  int64_t count;
  int64_t width;
  const float* divisors; /* (count, width), dense; the same for every channel */
  float* const* lines;   /* count */
  int64_t channel_stride;
} sgmf_divide_lines_args;

/* Divides lines in place. Results and `threads` as above. */
SGMF_API const char* sgmf_divide_lines(const sgmf_divide_lines_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
