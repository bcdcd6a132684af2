// Plan by which the logits of a scan are streamed into labels without ever being held all at once.
//
// The logits in memory span the overlap of two tiles in depth, and one tile in depth and height,
// not the scan. Where even that is too much, the scan is divided along height and width into
// blocks that are streamed one after the other; tiles across a border then run once for each side.
//
// Every voxel sees the same operations in the same order as with all logits in memory, so the
// labels are the same, voxel for voxel, whatever the budget.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/labels/logit_lines.h"
#include "pipeline/sampling/axis_taps.h"
#include "pipeline/spec.h"
#include "pipeline/tiles/logit_sums.h"
#include "pipeline/tiles/tile_strips.h"
#include "pipeline/tiles/tiling.h"

namespace sgmf {

// A part of the target grid and the part of the tiles' grid that it needs.
struct Block {
  std::array<Range, 2> target;  // along height and width
  Box source;                   // all along depth
  int64_t lines = 0;            // that exist at once at most

  int64_t width() const { return source[2].size(); }
};

class LabelPlan {
 public:
  // A way to divide the scan: the largest size of a block's sums of logits, and its cost in tiles.
  struct Candidate {
    int64_t lines;
    int64_t width;
    int64_t tile_runs;  // of each depth
  };

  LabelPlan(const Triple& image_shape, const Tiling& tiling, GridTaps taps);

  const std::vector<Candidate>& candidates() const { return candidates_; }
  // Takes the division with the fewest tiles run among those that `fits` accepts; false if it
  // accepts none. To be called before what follows.
  bool choose(const std::function<bool(const Candidate&)>& fits);
  const Candidate& chosen() const { return candidates_[chosen_]; }

  const Padding& padding() const { return padding_; }
  // Whether there is a single tile: its logits need no sums.
  bool is_one_tile() const { return boxes_.size() == 1; }
  // Places of all voxels of the target in that tile.
  GridTaps taps_in_tile() const;
  // The tiles in the order in which they run, those of one block after the other.
  std::vector<Box> tiles() const;

  // Streams every tile through `lines`. `weights` are those of the voxels of a tile; `progress` is
  // called with the tiles done and their number.
  void run(LogitLines& lines, const std::vector<float>& weights,
           const std::function<void(int64_t, int64_t)>& progress) const;

 private:
  // Target and padded source ranges of the parts of one axis, and the tiles they meet.
  struct Division {
    struct Part {
      Range target;
      Range source;
    };
    std::vector<Part> parts;
    int64_t tile_runs = 0;

    int64_t longest() const;
  };

  Division divide(int axis, int64_t count) const;
  std::vector<int64_t> lines_of(const Division& rows) const;
  std::vector<Box> tiles_of(const Block& block) const;
  std::vector<float> weight_sums(const Strip& strip, const Block& block,
                                 const std::vector<Box>& tiles,
                                 const std::vector<float>& weights) const;
  Box target_of(const Strip& strip, const Block& block) const;
  GridTaps taps_of(const Box& target, const Strip& strip, const Block& block) const;

  Triple tile_;
  GridTaps taps_;
  Padding padding_;
  std::vector<Box> boxes_;
  std::vector<Division> rows_;
  std::vector<Division> columns_;
  std::vector<std::vector<int64_t>> lines_;  // of each part of each of rows_
  std::vector<Candidate> candidates_;        // (rows_, columns_)
  std::size_t chosen_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace sgmf
