/* Fills the holes of a binary volume in place. */
#ifndef SGMF_FILL_HOLES_H_
#define SGMF_FILL_HOLES_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Voxels are 0 or 1. A 0 becomes 1 unless steps along the axes lead over zeros from it to the
 * border of the volume. The pointer is borrowed. */
typedef struct sgmf_fill_holes_args {
  uint8_t* voxels; /* (extent[0], extent[1], extent[2]), dense */
  int64_t extent[3];
} sgmf_fill_holes_args;

/* Runs on the calling thread, whatever `threads` says.
 * Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_fill_holes(const sgmf_fill_holes_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
