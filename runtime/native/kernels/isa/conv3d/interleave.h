// Rows of outputs from their phases: of every voxel, or every second or fourth one.
#pragma once

#include <algorithm>

#include "kernels/isa/simd.h"

namespace SGMF_ISA {

// Vectors of every second or fourth voxel as vectors of neighbouring voxels.
template <int phase_count>
inline void join(const Vec* phases, Vec* voxels) {
  if constexpr (phase_count == 1) {
    voxels[0] = phases[0];
  } else if constexpr (phase_count == 2) {
    voxels[0] = zip_low(phases[0], phases[1]);
    voxels[1] = zip_high(phases[0], phases[1]);
  } else {
    const Vec even[] = {zip_low(phases[0], phases[2]), zip_high(phases[0], phases[2])};
    const Vec odd[] = {zip_low(phases[1], phases[3]), zip_high(phases[1], phases[3])};
    for (int i = 0; i < 2; ++i) {
      voxels[2 * i] = zip_low(even[i], odd[i]);
      voxels[2 * i + 1] = zip_high(even[i], odd[i]);
    }
  }
}

// A row of `size` outputs from phases that lie `step` floats apart; each is read in whole vectors.
template <int phase_count>
inline void store_row(const float* phases, int64_t step, int64_t size, float* y) {
  for (int64_t w = 0; w < size; w += phase_count * lane_count) {
    Vec given[phase_count];
    Vec voxels[phase_count];
    for (int k = 0; k < phase_count; ++k) given[k] = load(phases + k * step + w / phase_count);
    join<phase_count>(given, voxels);
    for (int k = 0; k < phase_count && w + k * lane_count < size; ++k) {
      const int64_t left = size - w - k * lane_count;
      store_lanes(y + w + k * lane_count, voxels[k],
                  static_cast<int>(std::min<int64_t>(left, lane_count)));
    }
  }
}

}  // namespace SGMF_ISA
