// Labels of voxels whose logits are at hand: no interpolation between them.
#pragma once

#include <cstdint>

namespace sgmf {

// Rows of logits in several channels, contiguous in each.
struct LogitRows {
  const float* const* rows;  // where the first channel's row begins
  int64_t count;
  int64_t width;
  int64_t channels;
  int64_t channel_stride;   // elements from a channel's row to the next one's
  const uint16_t* regions;  // as of sgmf_label_resample_args
};

// The label of each voxel, (count, width): the largest logit (the first of equals), or the value
// of the last region whose logit is positive. Returns whether all logits are finite.
bool label_rows(const LogitRows& logits, uint16_t* labels);

}  // namespace sgmf
