// Probabilities in place of logits, for packages that interpolate those.
#pragma once

#include <cstdint>

namespace sgmf {

// Replaces the logits of a row of voxels in several channels: by the softmax over `channels`, or,
// where regions may overlap, each by its sigmoid less a half. What is positive between voxels is
// then in a region, as with logits. Returns whether all logits are finite.
bool to_probabilities(float* row, int64_t width, int64_t channels, int64_t channel_stride,
                      bool exclusive);

}  // namespace sgmf
