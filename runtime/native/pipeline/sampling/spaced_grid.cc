#include "pipeline/sampling/spaced_grid.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "pipeline/error.h"
#include "pipeline/sampling/resample.h"

namespace sgmf {
namespace {

constexpr double same_spacing_mm = 1e-3;
constexpr double same_scale = 1e-3 + 1e-5;
constexpr double same_corner = 1e-8;  // in voxels
// Of the places of a scan's voxels along perpendicular axes: more is no rounding of a header.
constexpr double most_lean = 1e-2;  // in voxels
constexpr double undecided = 1e-8;

// The affine's columns as sums of perpendicular directions, each of which is that of a column
// without what earlier ones hold of it: `steps[k][axis]` millimetres along direction k.
using Matrix = std::array<std::array<double, 3>, 3>;

double dot(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

Matrix perpendicular_steps(const Affine& affine) {
  Matrix units{}, steps{};
  for (int axis = 0; axis < 3; ++axis) {
    std::array<double, 3> column{};
    for (int row = 0; row < 3; ++row) column[row] = affine[row][axis];
    units[axis] = column;
    for (int k = 0; k < axis; ++k) {
      steps[k][axis] = dot(units[k], column);
      for (int row = 0; row < 3; ++row) units[axis][row] -= steps[k][axis] * units[k][row];
    }
    const double length = std::sqrt(dot(units[axis], units[axis]));
    steps[axis][axis] = length;
    for (double& part : units[axis]) part /= length;
  }
  return steps;
}

// Millimetres along direction k that the other axes lean at most: towards the far side, or to
// both.
double lean(const Matrix& steps, int k, const Triple& shape, bool back_alone) {
  double sum = 0;
  for (int other = k + 1; other < 3; ++other) {
    const double end = steps[k][other] * static_cast<double>(shape[other] - 1);
    sum += back_alone ? std::max(0.0, -end) : std::abs(end);
  }
  return sum;
}

void check_perpendicular(const Matrix& steps, const Triple& shape) {
  for (int k = 0; k < 3; ++k) {
    if (lean(steps, k, shape, false) <= most_lean * steps[k][k]) continue;
    throw Error(ErrorCode::geometry,
                "the scan's axes are not perpendicular; the model's training resampled such scans "
                "along other axes. Straighten the scan first");
  }
}

// The only row of the affine that an axis runs along; none for an oblique one.
std::optional<int> only_row(const Affine& affine, int axis) {
  std::optional<int> found;
  for (int row = 0; row < 3; ++row) {
    if (affine[row][axis] == 0) continue;
    if (found) return std::nullopt;
    found = row;
  }
  return found;
}

// Voxels along an axis of the body, before rounding. Scans of 5 mm slices often end on exactly half
// a voxel of 2 mm: there the rounding of each of MONAI's products decides, so they are done one by
// one.
double voxels_along(const Affine& affine, int row, int axis, int64_t length, double wanted) {
  const double steps = static_cast<double>(length - 1);
  const double edge = affine[row][axis];
  const double rotation = edge * (1 / std::abs(edge));
  const double inverse = 1 / (rotation * wanted);
  const double first = affine[row][3] * inverse;
  const double last = edge * inverse * steps + first;
  return std::abs(last - first) + 1;
}

// Voxels along an axis of an oblique scan, before rounding.
double voxels_along(const Matrix& steps, int axis, const Triple& shape, double wanted) {
  const double own = steps[axis][axis] * static_cast<double>(shape[axis] - 1);
  const double voxels = (own + lean(steps, axis, shape, false)) / wanted + 1;
  if (std::abs(voxels - std::floor(voxels) - 0.5) < undecided) {
    throw Error(ErrorCode::geometry,
                "the scan is oblique and ends on exactly half a voxel of the model's grid, where "
                "the rounding of its training's program decides; resample the scan along the axes "
                "of the body first");
  }
  return voxels;
}

}  // namespace

SpacedGrid spaced_grid(const Affine& affine, const Triple& shape, const Spacing& spacing_mm,
                       const Spacing& wanted_mm) {
  const Matrix steps = perpendicular_steps(affine);
  check_perpendicular(steps, shape);
  SpacedGrid grid{wanted_mm, shape};
  bool same = true;
  for (int axis = 0; axis < 3; ++axis) {
    double& spacing = grid.spacing_mm[axis];
    if (std::abs(spacing_mm[axis] - spacing) <= same_spacing_mm) spacing = spacing_mm[axis];
    const std::optional<int> row = only_row(affine, axis);
    const bool alone = row && lean(steps, axis, shape, false) == 0;
    grid.shape[axis] = rounded_extent(alone ? voxels_along(affine, *row, axis, shape[axis], spacing)
                                            : voxels_along(steps, axis, shape, spacing));
    same = same && std::abs(spacing / spacing_mm[axis] - 1) <= same_scale;
    // Where a voxel lies before the first one along the new axes, MONAI aligns centres: the
    // rounding of a header's float32 is enough.
    if (lean(steps, axis, shape, true) > same_corner * spacing) grid.centred = true;
  }
  if (same && grid.shape == shape) {
    grid.spacing_mm = spacing_mm;
    grid.centred = false;
  }
  return grid;
}

}  // namespace sgmf
