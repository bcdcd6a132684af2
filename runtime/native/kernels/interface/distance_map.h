/* Distance of every voxel from the nearest marked one. */
#ifndef SGMF_DISTANCE_MAP_H_
#define SGMF_DISTANCE_MAP_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Exact Euclidean distances between centres of voxels, in the unit of `spacing`; infinite if no
 * voxel is marked. `marked` and `distance` are dense, of `extent`, and borrowed.
 * Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_distance_map(const uint8_t* marked, const int64_t extent[3],
                                       const double spacing[3], double* distance);

#ifdef __cplusplus
}
#endif

#endif
