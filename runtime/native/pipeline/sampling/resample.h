// Spline resampling that computes what nnU-Net v2 computes, a few planes at a time.
//
// A spline resize is linear and separable: a sparse matrix for each axis. Planes are read, resized
// along their own axes and kept only as far as the spline across them reaches.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "pipeline/geometry/box.h"
#include "pipeline/sampling/axis_operator.h"
#include "pipeline/spec.h"

namespace sgmf {

// A number of voxels along an axis: rounded half to even, at least one. Throws Error(geometry) for
// so many that the spacing must be wrong.
int64_t rounded_extent(double voxels);

// Voxels that cover the same extent at another spacing.
Triple target_shape(const Triple& shape, const Spacing& spacing_mm, const Spacing& new_spacing_mm);

// Coarse axis that is resampled on its own, or none where all go together: that of the largest
// spacing, if only one has it. Unless `resampling` forces or forbids it, the present spacing
// decides if it is anisotropic beyond the threshold, otherwise the new one.
std::optional<int> separate_axis(const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                                 const Resampling& resampling);

// The operator that resamples an axis; none where its voxels stay.
std::optional<AxisOperator> axis_resize(int axis, const Triple& shape, const Triple& new_shape,
                                        const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                                        const Resampling& resampling, int order);

// Fills its second argument with the voxels inside a box, C order. Called from one thread at once
// for each plane; boxes span one axis in part and the others whole.
using ReadBox = std::function<void(const Box& box, float* out)>;

// Reads an array (*shape), C order, which is borrowed.
ReadBox array_reader(const float* values, const Triple& shape);

// A resize of channels that all have one shape.
class ChannelResize {
 public:
  // `threads` at least 1.
  ChannelResize(const Triple& shape, const Triple& new_shape, const Spacing& spacing_mm,
                const Spacing& new_spacing_mm, const Resampling& resampling, int threads);

  // Fills `target` (new_shape, C order). Values are clipped to the range of what was resized
  // together: the channel, or the slice across the separate axis.
  void run(const ReadBox& source, float* target) const;

 private:
  struct Bounds;
  struct Planes;

  void read_all(const ReadBox& source, float* target) const;
  void read(const ReadBox& source, const Range& part, float* planes) const;
  bool overshoots() const;
  Bounds channel_bounds(const ReadBox& source, int64_t step) const;
  void resize_planes(const float* planes, int64_t count, double* target) const;
  void resize_across(const double* ring, int64_t kept, const Range& results,
                     const AxisOperator& across, const Bounds& bounds, float* target) const;

  Triple shape_;
  Triple new_shape_;
  std::array<std::optional<AxisOperator>, 3> operators_;  // none: the voxels stay
  std::optional<int> separate_;
  int outer_;                 // axis across planes
  std::array<int, 2> inner_;  // axes of a plane
  int threads_;
};

}  // namespace sgmf
