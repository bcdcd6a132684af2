// Places of one grid's voxels between those of another, for the interpolation of labels.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/interface/label_resample.h"
#include "pipeline/geometry/box.h"
#include "pipeline/spec.h"

namespace sgmf {

// Voxel i is (1 - weight[i]) * source[low[i]] + weight[i] * source[high[i]], with `high` equal to
// `low` or one more.
struct AxisTaps {
  std::vector<int64_t> low;
  std::vector<int64_t> high;
  std::vector<double> weight;

  int64_t count() const { return static_cast<int64_t>(low.size()); }

  // Taps of some voxels, of a source that starts at voxel `origin`.
  AxisTaps part(const Range& voxels, int64_t origin) const;

  // Whether each voxel is one of the source, and they follow each other.
  bool on_grid() const;

  // Borrows these arrays.
  sgmf_axis_taps view() const { return {count(), low.data(), high.data(), weight.data()}; }

  // Voxels whose upper neighbour lies in a range of the source.
  Range reaching(const Range& source) const;
};

using GridTaps = std::array<AxisTaps, 3>;

// Taps that resample logits as ChannelResize does; none where a spline order above one, or a mean
// of many voxels, needs more neighbours.
std::optional<GridTaps> grid_taps(const Triple& shape, const Triple& new_shape,
                                  const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                                  const Resampling& resampling);

}  // namespace sgmf
