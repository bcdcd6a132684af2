// Whether the network's grid of a scan can be meant.
#pragma once

#include "pipeline/prepare.h"
#include "pipeline/spec.h"

namespace sgmf {

// Throws Error(geometry) for a scan that its spacing shrinks to a few voxels, as a unit that was
// misread does, or enlarges to more tiles than a day's work. `grid` is that of the whole scan: what
// is empty in it says nothing about its spacing. To be asked before anything is allocated.
void check_grid(const NetworkGrid& grid, const Tiling& tiling);

}  // namespace sgmf
