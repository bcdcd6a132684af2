// Tiles that hold one value in each channel, as of clipped air around a CT.
//
// A network gives such tiles the same logits wherever they lie, so that one run of it does for all.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/tiles/tiling.h"

namespace sgmf {

// The tiles of those values that the most tiles hold.
struct EqualTiles {
  int64_t first = -1;        // the one that runs, -1 where no two are equal
  std::vector<bool> repeat;  // whether a tile equals that earlier one, bit for bit
};

// Compares `boxes` of an image that lies at `place`; beyond it tiles hold zeros.
EqualTiles equal_tiles(const Image& image, const Box& place, const std::vector<Box>& boxes);

}  // namespace sgmf
