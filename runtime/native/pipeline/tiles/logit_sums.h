// Weighted sums of logits, held from a voxel's first tile to its label and no longer.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/labels/logit_lines.h"
#include "pipeline/tiles/tile_strips.h"

namespace sgmf {

// Sums over the tiles of a region, whose strips come one after the other. The row of a voxel along
// width takes a line when the first tile reaches it, and gives it back when it is finished and no
// later row or plane is interpolated with it.
class LogitSums {
 public:
  // `lines` has `capacity` lines as wide as the region, see most_lines; tiles have `tile_depth`
  // planes and may reach beyond the region.
  LogitSums(LogitLines& lines, const Box& region, int64_t tile_depth, int64_t capacity);

  // Adds the part of the present tile that lies in the region.
  void add(const Box& box);

  // Turns the sums of a strip into means. Lines of its planes and rows, behind the last plane and
  // the last row before them where there are such.
  Places finish(const Strip& strip, const std::vector<float>& weight_sums);

  // Gives back what no later strip needs: all but the last plane and the last row.
  void release(const Strip& strip);

 private:
  int64_t& place(int64_t plane, int64_t row);
  Places places(const Range& planes, const Range& rows);
  Places taken(const Range& planes, const Range& rows);
  Range with_plane_before(const Range& planes) const;
  Range with_row_before(const Range& rows) const;

  LogitLines& lines_;
  Box region_;
  int64_t ring_;  // planes that are in use follow each other and share their places in turn
  std::vector<int64_t> free_;
  std::vector<int64_t> places_;  // (ring, rows of the region), -1 for none
};

}  // namespace sgmf
