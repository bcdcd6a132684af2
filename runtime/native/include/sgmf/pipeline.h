/* The pipeline around a network, as the Python runtime calls it: C structures of the C++ ones in
 * pipeline/, whose comments hold here as well. Internal: the stable C interface is sgmf.h.
 *
 * Every function returns an sgmf_error and, unless that is SGMF_OK, fills `failure`. Pointers are
 * borrowed for the call.
 */
#ifndef SGMF_PIPELINE_H_
#define SGMF_PIPELINE_H_

#include <stdint.h>

#include "sgmf/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sgmf_error {
  SGMF_OK = 0,
  SGMF_ARGUMENT = 1,
  SGMF_INPUT = 2,
  SGMF_GEOMETRY = 3,
  SGMF_BUDGET = 4,
  SGMF_BACKEND = 5,
  SGMF_CANCELLED = 6,
  SGMF_MEMORY = 7,
  SGMF_CALLBACK = 8 /* a callback returned other than zero; it knows why */
} sgmf_error;

typedef struct sgmf_failure {
  int64_t budget_bytes; /* for SGMF_BUDGET; `message` is then what needs the memory */
  int64_t least_bytes;
  char message[1024];
} sgmf_failure;

typedef struct sgmf_volume {
  const void* voxels;
  int32_t element_type; /* as sgmf::ElementType */
  int64_t channels;
  int64_t shape[3];
  int64_t strides[4]; /* in elements */
  double affine[16];
} sgmf_volume;

typedef struct sgmf_normalization {
  int32_t scheme; /* as sgmf::NormalizationScheme */
  int32_t use_mask;
  double mean;
  double std;
  double lower;
  double upper;
} sgmf_normalization;

typedef struct sgmf_resampling {
  int32_t order;
  int32_t order_z;
  int32_t separate_z; /* 0, 1, or -1 to decide by anisotropy */
  double anisotropy_threshold;
} sgmf_resampling;

typedef struct sgmf_preprocessing {
  int64_t channels;
  const char* const* channel_names; /* one for each */
  const sgmf_normalization* normalization;
  const char* orientation; /* NULL takes voxels as stored */
  int32_t transpose_forward[3];
  int32_t crop_to_nonzero;
  const double* spacing_mm; /* three, or NULL to keep the scan's */
  sgmf_resampling resampling;
  sgmf_resampling logits_resampling;
} sgmf_preprocessing;

typedef struct sgmf_network_grid {
  int32_t axes[3];
  int32_t reverse[3];
  int64_t uncropped_shape[3];
  int64_t box[6]; /* begin and end along each axis */
  double scan_spacing_mm[3];
  double spacing_mm[3];
  int64_t shape[3];
} sgmf_network_grid;

/* The grid for a scan. With `whole` nothing is cropped and voxels are not looked at. */
SGMF_API int32_t sgmf_find_network_grid(const sgmf_volume* volume, const sgmf_preprocessing* spec,
                                        int32_t whole, sgmf_network_grid* grid,
                                        sgmf_failure* failure);

/* Fills `image` (channels, *grid->shape), C order. `threads` 0 takes every processor. */
SGMF_API int32_t sgmf_fill_image(const sgmf_volume* volume, const sgmf_preprocessing* spec,
                                 const sgmf_network_grid* grid, int32_t threads, float* image,
                                 sgmf_failure* failure);

/* The reorientation after which axes run as nearly as possible towards `codes`. */
SGMF_API int32_t sgmf_orient(const double affine[16], const char* codes, int32_t axes[3],
                             int32_t reverse[3], sgmf_failure* failure);

/* Scales one channel (*shape), float32 with strides in elements, into `out`, C order. `mask`
 * (*shape), C order, may be NULL. */
SGMF_API int32_t sgmf_normalize(const float* channel, const int64_t shape[3],
                                const int64_t strides[3], const sgmf_normalization* spec,
                                const uint8_t* mask, int32_t threads, float* out,
                                sgmf_failure* failure);

typedef struct sgmf_resize {
  int64_t shape[3];
  int64_t new_shape[3];
  double spacing_mm[3];
  double new_spacing_mm[3];
  sgmf_resampling resampling;
} sgmf_resize;

/* Resizes channels (channels, *shape) to `out` (channels, *new_shape), both C order. */
SGMF_API int32_t sgmf_resize_channels(const sgmf_resize* resize, const float* image,
                                      int64_t channels, int32_t threads, float* out,
                                      sgmf_failure* failure);

/* Fills in `new_shape`. */
SGMF_API int32_t sgmf_find_new_shape(sgmf_resize* resize, sgmf_failure* failure);

/* The axis that is resampled on its own, or -1. */
SGMF_API int32_t sgmf_find_separate_axis(const sgmf_resize* resize, int32_t* axis,
                                         sgmf_failure* failure);

/* The matrix (new_length, length) that resizes an axis. */
SGMF_API int32_t sgmf_resize_weights(int64_t length, int64_t new_length, int32_t order,
                                     double* weights, sgmf_failure* failure);

typedef struct sgmf_tiling {
  int64_t tile[3];
  double step;
  int32_t gaussian;
  int32_t mirror_axes[3]; /* whether each may be mirrored */
  int32_t scheme;         /* as sgmf::TilingScheme */
} sgmf_tiling;

typedef struct sgmf_output {
  int64_t labels;
  const uint16_t* label_values;
  int64_t regions;
  const uint16_t* region_values;
} sgmf_output;

/* Tiles (count, channels, *tile) to logits (count, classes, *tile); 0, or anything else to stop
 * with SGMF_CALLBACK. */
typedef int32_t (*sgmf_run_tiles)(void* user, const float* tiles, int64_t count, float* logits);
/* Tiles done and their number; anything but 0 stops with SGMF_CALLBACK. */
typedef int32_t (*sgmf_progress)(void* user, int64_t done, int64_t count);

typedef struct sgmf_segment_args {
  const sgmf_volume* volume;
  const sgmf_preprocessing* preprocessing;
  const sgmf_tiling* tiling;
  const sgmf_output* output;
  sgmf_run_tiles run;
  sgmf_progress progress;
  void* user;
  int64_t tiles_at_once;
  int32_t overlap;
  int32_t mirror;
  int32_t threads;
  int64_t budget_bytes;
  void* labels;
  int32_t label_type;
  int64_t label_strides[3];
} sgmf_segment_args;

/* From a volume to its labels. */
SGMF_API int32_t sgmf_segment_volume(const sgmf_segment_args* args, sgmf_failure* failure);

#ifdef __cplusplus
}
#endif

#endif
