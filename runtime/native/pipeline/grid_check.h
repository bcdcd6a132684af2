// Check that the network's grid of a scan is plausible.
#pragma once

#include "pipeline/prepare.h"
#include "pipeline/spec.h"

namespace sgmf {

// Throws Error(geometry) if the spacing shrinks the scan to a few voxels, as a misread unit does,
// or enlarges it to more tiles than a day's work. `grid` is that of the whole scan, since its empty
// part says nothing about its spacing. To be called before anything is allocated.
void check_grid(const NetworkGrid& grid, const Tiling& tiling);

}  // namespace sgmf
