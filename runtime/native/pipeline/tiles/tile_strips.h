// Order in which tiles run, and the voxels that each finishes.
//
// Tiles run in order of depth, then of height. Voxels that no later tile reaches are finished.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/box.h"

namespace sgmf {

// Tiles that share their depth and height, and the planes and rows that they are the last to
// reach.
struct Strip {
  std::vector<Box> boxes;
  Range planes;
  Range rows;
};

// The tiles of a region by what they finish. `boxes` reach into the region and cover it, on a
// grid, depth slowest; the region spans the whole depth.
std::vector<Strip> tile_strips(const std::vector<Box>& boxes, const Box& region);

// Most rows of voxels along width that are in use at once: from their first tile until they are
// finished and no later row or plane is interpolated with them.
int64_t most_lines(const std::vector<Box>& boxes, const Box& region);

}  // namespace sgmf
