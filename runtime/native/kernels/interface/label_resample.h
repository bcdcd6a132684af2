/* Label maps from logits on a coarser or finer grid, without the logits of the target grid.
 *
 * Each target voxel interpolates the logits of its up to eight neighbours, axis by axis, in
 * double, rounds to float32 and takes the label: the largest logit (the first of equals), or
 * the value of the last region whose logit is positive. The result is that of resampling all
 * logits first, voxel for voxel, in memory for the label map alone.
 */
#ifndef SGMF_LABEL_RESAMPLE_H_
#define SGMF_LABEL_RESAMPLE_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the target voxels of one axis lie: (1 - weight) * source[low] + weight * source[high].
 * low does not decrease, and high is low or low + 1. */
typedef struct sgmf_axis_taps {
  int64_t count;
  const int64_t* low;
  const int64_t* high;
  const double* weight; /* 0 to below 1 */
} sgmf_axis_taps;

/* Every pointer is borrowed for the call. */
typedef struct sgmf_label_resample_args {
  const float* const* lines; /* (depth, height): where the first channel's row begins */
  int64_t channels;          /* 1 to 65,535 */
  int64_t channel_stride;    /* elements from a channel's row to the next one's */
  int64_t depth;
  int64_t height;
  int64_t width;           /* rows are contiguous */
  sgmf_axis_taps taps[3];  /* depth, height, width of the target */
  const uint16_t* regions; /* NULL: the channel with the largest logit; else a value for each */
  uint16_t* labels;        /* (taps[0].count, taps[1].count, taps[2].count), dense */
} sgmf_label_resample_args;

/* Runs on up to `threads` threads of its own; 0 takes one for each available processor.
 * Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_label_resample(const sgmf_label_resample_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
