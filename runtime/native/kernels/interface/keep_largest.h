/* Keeps the largest component of some labels of a label map. */
#ifndef SGMF_KEEP_LARGEST_H_
#define SGMF_KEEP_LARGEST_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Voxels whose label is one of `values` form components: voxels that touch by a face, an edge or a
 * corner are of the same one. Those of all components but the largest become 0; of equally large
 * ones each stays. Pointers are borrowed. */
typedef struct sgmf_keep_largest_args {
  void* labels;      /* voxel (i, j, k) is element i * stride[0] + j * stride[1] + k * stride[2] */
  int32_t is_uint16; /* 0: uint8 */
  int64_t extent[3];
  int64_t stride[3];
  const uint16_t* values;
  int64_t value_count;
} sgmf_keep_largest_args;

/* Memory that sgmf_keep_largest takes at most, whatever the labels: about a byte for each voxel. */
SGMF_API int64_t sgmf_keep_largest_bytes(const int64_t extent[3]);

/* Runs on the calling thread, whatever `threads` says.
 * Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_keep_largest(const sgmf_keep_largest_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
