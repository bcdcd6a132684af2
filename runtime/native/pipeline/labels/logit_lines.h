// Memory for sums of logits: lines, each a row of voxels along width in every channel.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/sampling/axis_taps.h"

namespace sgmf {

// Numbers of the lines that hold the rows at each depth and height of a part.
struct Places {
  int64_t depth = 0;
  int64_t height = 0;
  std::vector<int64_t> lines;  // (depth, height)
};

// Memory in which tiles are summed and from which labels come. Logits of tiles reach it in the
// order in which the tiles run, as arrays or as objects on a device.
class LogitLines {
 public:
  virtual ~LogitLines() = default;

  // Takes memory for `capacity` lines of `width` voxels and forgets those before.
  virtual void begin(int64_t capacity, int64_t width) = 0;
  // Makes lines zero.
  virtual void clear(const std::vector<int64_t>& lines) = 0;
  // Runs the next tile.
  virtual void next_tile() = 0;
  // Adds the weighted logits of the part `inside` of that tile to lines, from `column` on.
  virtual void add(const Places& places, int64_t column, const Box& inside) = 0;
  // Divides every channel of lines by `divisors` (depth, height, width).
  virtual void divide(const Places& places, const std::vector<float>& divisors) = 0;
  // Uses finished logits: those of the voxels `target` of the scan's cropped grid lie between those
  // of `places`, as `taps` state.
  virtual void finish(const Places& places, const Box& target, const GridTaps& taps) = 0;
};

}  // namespace sgmf
