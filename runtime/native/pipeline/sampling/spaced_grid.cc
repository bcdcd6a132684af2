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
constexpr double most_cosine = 1e-3;
constexpr double same_corner = 1e-8;  // in voxels

void check_perpendicular(const Affine& affine) {
  for (int a = 0; a < 3; ++a) {
    const int b = (a + 1) % 3;
    double product = 0, a_square = 0, b_square = 0;
    for (int row = 0; row < 3; ++row) {
      product += affine[row][a] * affine[row][b];
      a_square += affine[row][a] * affine[row][a];
      b_square += affine[row][b] * affine[row][b];
    }
    if (std::abs(product) > most_cosine * std::sqrt(a_square * b_square)) {
      throw Error(
          ErrorCode::geometry,
          "the scan's axes are not perpendicular; the model's training resampled such scans "
          "along other axes. Straighten the scan first");
    }
  }
}

// MONAI's grids of oblique scans were seen to lie elsewhere than this project's.
void check_along_body(const Affine& affine) {
  for (int axis = 0; axis < 3; ++axis) {
    double square = 0, largest = 0;
    for (int row = 0; row < 3; ++row) {
      const double part = affine[row][axis] * affine[row][axis];
      square += part;
      largest = std::max(largest, part);
    }
    if (square - largest > most_cosine * most_cosine * square) {
      throw Error(ErrorCode::geometry,
                  "the scan is oblique: its axes do not run along those of the body, where the "
                  "grid of the model's training is not known to the voxel; resample the scan along "
                  "the axes of the body first");
    }
  }
}

double dot(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

// Whether no voxel lies before the first one along the new grid's axes, which are those of the
// affine made perpendicular in their order. A float32 header may be off by just enough: MONAI then
// puts the centres of both grids, not their first voxels, at one place.
bool keeps_first_voxel(const Affine& affine, const Triple& shape, const Spacing& wanted_mm) {
  std::array<std::array<double, 3>, 3> columns, units;
  for (int axis = 0; axis < 3; ++axis) {
    for (int row = 0; row < 3; ++row) columns[axis][row] = affine[row][axis];
  }
  for (int axis = 0; axis < 3; ++axis) {
    units[axis] = columns[axis];
    for (int before = 0; before < axis; ++before) {
      const double share = dot(units[before], columns[axis]);
      for (int row = 0; row < 3; ++row) units[axis][row] -= share * units[before][row];
    }
    const double length = std::sqrt(dot(units[axis], units[axis]));
    for (double& part : units[axis]) part /= length;
    double before_first = 0;
    for (int other = axis + 1; other < 3; ++other) {
      const double steps = static_cast<double>(shape[other] - 1);
      before_first += std::min(0.0, dot(units[axis], columns[other]) * steps / wanted_mm[axis]);
    }
    if (before_first < -same_corner) return false;
  }
  return true;
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

// Voxels along an axis, before rounding. Scans of 5 mm slices often end on exactly half a voxel of
// 2 mm: there the rounding of each of MONAI's products decides, so they are done one by one.
double voxels_along(const Affine& affine, int axis, int64_t length, double spacing, double wanted) {
  const double steps = static_cast<double>(length - 1);
  const std::optional<int> row = only_row(affine, axis);
  if (!row) return spacing / wanted * steps + 1;
  const double edge = affine[*row][axis];
  const double rotation = edge * (1 / std::abs(edge));
  const double inverse = 1 / (rotation * wanted);
  const double first = affine[*row][3] * inverse;
  const double last = edge * inverse * steps + first;
  return std::abs(last - first) + 1;
}

}  // namespace

SpacedGrid spaced_grid(const Affine& affine, const Triple& shape, const Spacing& spacing_mm,
                       const Spacing& wanted_mm) {
  check_perpendicular(affine);
  check_along_body(affine);
  SpacedGrid grid{wanted_mm, shape};
  bool same = true;
  for (int axis = 0; axis < 3; ++axis) {
    const double scan = spacing_mm[axis];
    if (std::abs(scan - wanted_mm[axis]) <= same_spacing_mm) grid.spacing_mm[axis] = scan;
    grid.shape[axis] =
        rounded_extent(voxels_along(affine, axis, shape[axis], scan, grid.spacing_mm[axis]));
    same = same && std::abs(grid.spacing_mm[axis] / scan - 1) <= same_scale;
  }
  if (same && grid.shape == shape) {
    grid.spacing_mm = spacing_mm;
  } else if (!keeps_first_voxel(affine, shape, grid.spacing_mm)) {
    throw Error(
        ErrorCode::geometry,
        "the scan's axes are a little less than perpendicular, by the rounding of its header; the "
        "model's training would have moved its grid by parts of a voxel, which is not done here; "
        "resample the scan along the axes of the body first");
  }
  return grid;
}

}  // namespace sgmf
