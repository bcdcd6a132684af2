// The product of a block of tiles or voxels with weights, which stays in the registers.
#pragma once

#include "kernels/isa/simd.h"

namespace SGMF_ISA {

constexpr int vectors = 3;
constexpr int block = vectors * lane_count;  // tiles or voxels
// Sums of a block for some outputs, a vector of tiles each and a weight must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int group = 8;
#else
constexpr int group = 4;
#endif

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// (channels, block) and weights (channels, group) give (group, block), whose rows lie `step` apart,
// added to `start`, one for each output. Not inline: beside the loops around it, sums would leave
// the registers.
__attribute__((noinline)) static void multiply(const float* inputs, const float* weights,
                                               int64_t channels, const float* start,
                                               float* products, int64_t step) {
  Vec sum[group][vectors];
  for (int k = 0; k < group; ++k) {
    for (int v = 0; v < vectors; ++v) sum[k][v] = splat(start[k]);
  }
  for (int64_t c = 0; c < channels; ++c) {
    Vec input[vectors];
    for (int v = 0; v < vectors; ++v) input[v] = load(inputs + c * block + v * lane_count);
    for (int k = 0; k < group; ++k) {
      const Vec weight = splat(weights[c * group + k]);
      for (int v = 0; v < vectors; ++v) sum[k][v] = fma(input[v], weight, sum[k][v]);
    }
  }
  for (int k = 0; k < group; ++k) {
    for (int v = 0; v < vectors; ++v) store(products + k * step + v * lane_count, sum[k][v]);
  }
}

}  // namespace SGMF_ISA
