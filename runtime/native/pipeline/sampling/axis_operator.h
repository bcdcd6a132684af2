// A sparse matrix along one axis, such as a spline resize has for each.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/spec.h"

namespace sgmf {

// Result i is the sum of weights[t] * source[columns[t]] over t from starts[i] to starts[i + 1],
// added up in that order in double.
struct AxisOperator {
  int64_t length = 0;  // of the source
  std::vector<int64_t> starts{0};
  std::vector<int64_t> columns;
  std::vector<double> weights;

  static AxisOperator identity(int64_t length);

  int64_t count() const { return static_cast<int64_t>(starts.size()) - 1; }

  // How many voxels of the source, from the first, each result and those before need.
  std::vector<int64_t> needed() const;

  // Voxels of the source to keep while results are computed in order.
  int64_t reach() const;

  // Whether results may leave the range of the source: some weight is negative.
  bool overshoots() const;

  // Results `begin` to `end`, of a source whose voxel i lies in place i modulo `slots`.
  AxisOperator part(int64_t begin, int64_t end, int64_t slots) const;
};

// The operator that resizes an axis as nnU-Net does: a spline through voxel centres of the
// edge-extended axis, at the centres of the new voxels, whose outer borders coincide with the old
// ones', or with `end_voxels` the centres of their first and last voxels. Orders 0 to 5; for 0, a
// centre halfway between two voxels takes the upper one. Other methods than splines have orders 0
// and 1 alone, and places in float32.
AxisOperator resize_operator(int64_t length, int64_t new_length, int order,
                             ResamplingMethod method = ResamplingMethod::spline,
                             Alignment alignment = Alignment::borders);

// The operator of MONAI's resampling: result i lies `first` + `step` * i voxels from the first one,
// or at the end where that is beyond. Order 0 (half to even) or 1.
AxisOperator spaced_operator(int64_t length, int64_t new_length, double first, double step,
                             int order);

}  // namespace sgmf
