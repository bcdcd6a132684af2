// Masks of a label map on the network's grid, by the rule of nnU-Net's cascade.
//
// nnU-Net resizes a label map label by label: the indicator of each is interpolated as an image is,
// and a voxel takes the label with the largest value, of equals that of the nearest voxel, or else
// the smallest. Beyond the scan's nonzero part, the background is a label of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/channel_view.h"
#include "pipeline/prepare.h"
#include "pipeline/spec.h"

namespace sgmf {

// Fills `masks` (stage.labels, *grid.shape), C order, with 1 where the label map has the label,
// else 0. `labels` is the label map in the grid's box, `inside` the nonzero_mask of the scan there.
// Beside them, memory holds two planes for each thread.
void fill_masks(const ChannelView& labels, const std::vector<uint8_t>& inside,
                const NetworkGrid& grid, const PreviousStage& stage, int threads, float* masks);

}  // namespace sgmf
