/* Keeps the largest components of some labels of a label map. */
#ifndef SGMF_KEEP_LARGEST_H_
#define SGMF_KEEP_LARGEST_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Voxels whose label is one of `values` form components: neighbours are of the same one. Those of
 * all but the largest components become 0. Pointers are borrowed. */
typedef struct sgmf_keep_largest_args {
  void* labels;      /* voxel (i, j, k) is element i * stride[0] + j * stride[1] + k * stride[2] */
  int32_t is_uint16; /* 0: uint8 */
  int64_t extent[3];
  int64_t stride[3];
  const uint16_t* values;
  int64_t value_count;
  int32_t connectivity; /* neighbours touch by a face (1), also an edge (2), also a corner (3) */
  int64_t components;   /* number that stays */
  /* 1: of equally large components each stays. 0: only as many as `components` says, those whose
   * first voxels come last in C order of (i, j, k). */
  int32_t equals_stay;
} sgmf_keep_largest_args;

/* Memory that sgmf_keep_largest takes at most, whatever the labels: about a byte for each voxel
 * with a connectivity of 3, twice that with each one less, and twice that unless equals stay. */
SGMF_API int64_t sgmf_keep_largest_bytes(const int64_t extent[3], int32_t connectivity,
                                         int32_t equals_stay);

/* Runs on the calling thread, whatever `threads` says.
 * Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_keep_largest(const sgmf_keep_largest_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
