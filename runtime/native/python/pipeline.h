/* The pipeline around a network, as the Python runtime calls it: C structures of the C++ ones in
 * pipeline/, whose comments hold here as well. Internal: the stable C interface is sgmf.h.
 *
 * Every function returns an sgmf_pipeline_status and, unless that is SGMF_PIPELINE_OK, fills
 * `failure`. Pointers are borrowed for the call. A `preprocessing`, `normalization`, `resampling`,
 * `tiling` or `output` is the text of that part of a manifest.json.
 */
#ifndef SGMF_PIPELINE_H_
#define SGMF_PIPELINE_H_

#include <stdint.h>

#include "kernels/interface/label_resample.h"
#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sgmf_pipeline_status {
  SGMF_PIPELINE_OK = 0,
  SGMF_PIPELINE_ARGUMENT = 1,
  SGMF_PIPELINE_INPUT = 2,
  SGMF_PIPELINE_GEOMETRY = 3,
  SGMF_PIPELINE_BUDGET = 4,
  SGMF_PIPELINE_BACKEND = 5,
  SGMF_PIPELINE_CANCELLED = 6,
  SGMF_PIPELINE_MEMORY = 7,
  SGMF_PIPELINE_CALLBACK = 8 /* a callback returned other than zero; it knows why */
} sgmf_pipeline_status;

typedef struct sgmf_failure {
  int64_t budget_bytes; /* for SGMF_PIPELINE_BUDGET; `message` is then what needs the memory */
  int64_t least_bytes;
  char message[1024];
} sgmf_failure;

typedef struct sgmf_scan {
  const void* voxels;
  int32_t element_type; /* as sgmf::ElementType */
  int64_t channels;
  int64_t shape[3];
  int64_t strides[4]; /* in elements */
  double affine[16];
  double spacing_mm[3]; /* along x, y and z; all 0: the affine's */
} sgmf_scan;

typedef struct sgmf_network_grid {
  int32_t axes[3];
  int32_t reverse[3];
  int64_t uncropped_shape[3];
  int64_t box[6]; /* begin and end along each axis */
  double scan_spacing_mm[3];
  double spacing_mm[3];
  int64_t shape[3];
  int32_t centred;
} sgmf_network_grid;

/* The grid for a scan. With `whole` nothing is cropped and voxels are not read. */
SGMF_API int32_t sgmf_find_network_grid(const sgmf_scan* volume, const char* preprocessing,
                                        int32_t whole, sgmf_network_grid* grid,
                                        sgmf_failure* failure);

/* Refuses a grid of a few voxels or of more tiles than a day's work. */
SGMF_API int32_t sgmf_check_grid(const sgmf_network_grid* grid, const char* tiling,
                                 sgmf_failure* failure);

/* Fills `image` (channels, *grid->shape), C order. `labels` is NULL, or in a cascade a label map of
 * one channel on the scan's grid. `threads` 0 takes every processor. */
SGMF_API int32_t sgmf_fill_image(const sgmf_scan* volume, const char* preprocessing,
                                 const sgmf_network_grid* grid, const sgmf_scan* labels,
                                 int32_t threads, float* image, sgmf_failure* failure);

/* Fills `masks` (labels of the stage, *grid->shape), C order, from a label map as sgmf_fill_image
 * takes it; `stage` is the text of previous_stage. */
SGMF_API int32_t sgmf_fill_masks(const sgmf_scan* volume, const sgmf_network_grid* grid,
                                 const sgmf_scan* labels, const char* stage, int32_t threads,
                                 float* masks, sgmf_failure* failure);

/* Refuses an invalid affine, and measures the distances of neighbours. */
SGMF_API int32_t sgmf_measure_affine(const double affine[16], double spacing_mm[3],
                                     sgmf_failure* failure);

/* The reorientation after which axes run as nearly as possible towards `codes`. */
SGMF_API int32_t sgmf_orient(const double affine[16], const char* codes, int32_t axes[3],
                             int32_t reverse[3], sgmf_failure* failure);

/* Scales one channel (*shape), float32 with strides in elements, into `out`, C order. `mask`
 * (*shape), C order, may be NULL. */
SGMF_API int32_t sgmf_normalize(const float* channel, const int64_t shape[3],
                                const int64_t strides[3], const char* normalization,
                                const uint8_t* mask, int32_t threads, float* out,
                                sgmf_failure* failure);

typedef struct sgmf_resize {
  int64_t shape[3];
  int64_t new_shape[3];
  double spacing_mm[3];
  double new_spacing_mm[3];
} sgmf_resize;

/* Resizes channels (channels, *shape) to `out` (channels, *new_shape), both C order. */
SGMF_API int32_t sgmf_resize_channels(const sgmf_resize* resize, const char* resampling,
                                      const float* image, int64_t channels, int32_t threads,
                                      float* out, sgmf_failure* failure);

/* Fills in `new_shape`. */
SGMF_API int32_t sgmf_find_new_shape(sgmf_resize* resize, sgmf_failure* failure);

/* The axis that is resampled on its own, or -1. */
SGMF_API int32_t sgmf_find_separate_axis(const sgmf_resize* resize, const char* resampling,
                                         int32_t* axis, sgmf_failure* failure);

/* Places along an axis of the new grid between two voxels of the old one, as sgmf_axis_taps has
 * them, new_shape[axis] each; `found` is 0 where more than two voxels are mixed. */
SGMF_API int32_t sgmf_find_taps(const sgmf_resize* resize, const char* resampling, int32_t axis,
                                int64_t* low, int64_t* high, double* weight, int32_t* found,
                                sgmf_failure* failure);

/* The matrix (new_length, length) that resizes an axis. */
SGMF_API int32_t sgmf_resize_weights(int64_t length, int64_t new_length, int32_t order,
                                     double* weights, sgmf_failure* failure);

/* First voxels of the tiles along an axis, at most `capacity`; their number in `count`. */
SGMF_API int32_t sgmf_tile_starts(const char* tiling, int32_t axis, int64_t extent,
                                  int64_t capacity, int64_t* starts, int64_t* count,
                                  sgmf_failure* failure);

/* Weight of each voxel of a tile, C order. */
SGMF_API int32_t sgmf_tile_weights(const char* tiling, float* weights, sgmf_failure* failure);

/* Callbacks return 0, or anything else to stop with SGMF_PIPELINE_CALLBACK. `user` is the task's.
 */

/* Tiles (count, channels, *tile) to logits (count, classes, *logits_shape), dense. They stay where
 * they are until the next call, or with `overlap` until the next but one. */
typedef int32_t (*sgmf_run_tiles)(void* user, const float* tiles, int64_t count,
                                  const float** logits);
/* Tiles done and their number. */
typedef int32_t (*sgmf_progress)(void* user, int64_t done, int64_t count);

typedef struct sgmf_network {
  sgmf_run_tiles run;
  int64_t tiles_at_once;
  int32_t overlap;
  int64_t logits_shape[3];  /* a grid coarser than the tile's, see Network; 0: the tile's */
  int32_t mirrored_axes[3]; /* whether logits are averaged over each */
} sgmf_network;

/* Logits (classes, *tile) of one tile on a CUDA device, float32 and dense. */
typedef struct sgmf_device_logits {
  uint64_t address;
  void* computed; /* CUevent that happens when they are there */
  void* used;     /* CUevent that is recorded when they are no longer needed */
} sgmf_device_logits;

/* Starts to turn tiles (count, channels, *tile) into the logits of each. Those stay where they are
 * until the next call, before which `used` is recorded for all. */
typedef int32_t (*sgmf_run_on_device)(void* user, const float* tiles, int64_t count,
                                      sgmf_device_logits* logits);

/* A CUDA device where logits are computed, summed and turned into labels. */
typedef struct sgmf_device {
  const char* driver;     /* path of the NVIDIA driver's library, libcuda */
  const char* kernels;    /* and of libsgmf_cuda */
  sgmf_run_on_device run; /* in the place of sgmf_network.run; with as many tiles at once */
} sgmf_device;

/* Memory of the processor for a prediction, and what is held of it beside the image and its
 * stream. */
typedef struct sgmf_memory_budget {
  int64_t budget_bytes;
  int64_t scan_bytes;
  int64_t scan_voxels; /* of a channel: of the label map as well */
  int64_t bytes_per_label;
  int64_t probability_maps;     /* float32, in one array on the labels' grid */
  int64_t postprocessing_bytes; /* held after the stream, beside scan, image and label map */
} sgmf_memory_budget;

/* An image on the network's grid, the grid that its labels belong to, and what makes them. */
typedef struct sgmf_label_task {
  const char* tiling;
  const char* output;
  const char* resampling; /* of logits */
  int64_t channels;
  sgmf_resize resize; /* of logits: `new_shape` is that of the labels */
  sgmf_network network;
  void* user;
  int32_t threads;
  sgmf_memory_budget budget;
  const sgmf_device* device; /* for labels; NULL: all in memory of the processor */
} sgmf_label_task;

typedef struct sgmf_label_plan {
  int64_t tile_runs;
  int32_t streams; /* 0: all logits are needed at once */
} sgmf_label_plan;

/* A task that is planned, to be run any number of times, one run at a time. */
typedef struct sgmf_stream sgmf_stream;

/* Plans a task within its budget. Its callbacks must live as long as the stream, which is to be
 * freed. */
SGMF_API int32_t sgmf_open_stream(const sgmf_label_task* task, sgmf_stream** stream,
                                  sgmf_label_plan* plan, sgmf_failure* failure);

SGMF_API void sgmf_free_stream(sgmf_stream* stream);

/* Labels of an image (channels, *shape), C order, into labels (*new_shape), uint8 or uint16 with
 * strides in elements. `progress` may be NULL. */
SGMF_API int32_t sgmf_stream_labels(const sgmf_stream* stream, const float* image,
                                    sgmf_progress progress, void* labels, int32_t label_type,
                                    const int64_t label_strides[3], sgmf_failure* failure);

/* Finished logits, in lines of a memory, each (channels, width) with contiguous rows. Voxels
 * `target` lie between them where `taps` say: on the way to the labels' grid, or where that does
 * not stream, on the image's own. Borrowed for the call. */
typedef struct sgmf_finished_logits {
  const float* memory;
  int64_t line_stride;    /* elements from a line to the next one */
  int64_t channel_stride; /* and from a channel of a line to the next one */
  int64_t channels;
  int64_t width;
  const int64_t* lines; /* (depth, height) */
  int64_t depth;
  int64_t height;
  int64_t target[6]; /* begin and end along each axis */
  sgmf_axis_taps taps[3];
} sgmf_finished_logits;

typedef int32_t (*sgmf_take_logits)(void* user, const sgmf_finished_logits* logits);

/* Streams all logits of an image, once they are finished, to `take`. */
SGMF_API int32_t sgmf_stream_logits(const sgmf_stream* stream, const float* image,
                                    sgmf_progress progress, sgmf_take_logits take,
                                    sgmf_failure* failure);

/* Refuses a device that does not sum tiles and label voxels as the processor does. `run` is not
 * called. */
SGMF_API int32_t sgmf_check_device(const sgmf_device* device, sgmf_failure* failure);

typedef struct sgmf_segment_args {
  const sgmf_scan* volume;
  const char* preprocessing;
  const char* tiling;
  const char* output;
  sgmf_network network;
  sgmf_progress progress;
  void* user;
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
