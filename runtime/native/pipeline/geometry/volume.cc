#include "pipeline/geometry/volume.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "pipeline/error.h"

namespace sgmf {
namespace {

// The volume of the box that unit steps along the axes span: 1 for right angles, 0.87 for a gantry
// tilted by 30 degrees. Below this the axes practically share a plane.
constexpr double least_unit_volume = 1e-3;

double length(const Affine& affine, int axis) {
  return std::sqrt(affine[0][axis] * affine[0][axis] + affine[1][axis] * affine[1][axis] +
                   affine[2][axis] * affine[2][axis]);
}

bool is_finite_transform(const Affine& affine) {
  for (const auto& row : affine) {
    for (const double number : row) {
      if (!std::isfinite(number)) return false;
    }
  }
  return affine[3] == std::array<double, 4>{0, 0, 0, 1};
}

std::string numbers(double a, double b, double c) {
  char text[120];
  std::snprintf(text, sizeof(text), "%g x %g x %g", a, b, c);
  return text;
}

// As printed with six significant digits.
double six_digits(double number) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.5e", number);
  return std::strtod(text, nullptr);
}

}  // namespace

void check(const Affine& a) {
  if (!is_finite_transform(a)) {
    throw Error(ErrorCode::geometry,
                "the affine is not a finite transform; expected finite numbers over 0, 0, 0, 1");
  }
  const double x = length(a, 0), y = length(a, 1), z = length(a, 2);
  if (!(std::isfinite(x + y + z) && std::min({x, y, z}) > 0)) {
    throw Error(ErrorCode::geometry, "the voxel size is " + numbers(x, y, z) +
                                         " mm; expected three numbers above zero. Correct the "
                                         "header or convert the scan again");
  }
  const auto at = [&](int row, int axis) { return a[row][axis] / length(a, axis); };
  const double determinant = at(0, 0) * (at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)) -
                             at(0, 1) * (at(1, 0) * at(2, 2) - at(1, 2) * at(2, 0)) +
                             at(0, 2) * (at(1, 0) * at(2, 1) - at(1, 1) * at(2, 0));
  if (!(std::abs(determinant) >= least_unit_volume)) {
    throw Error(ErrorCode::geometry,
                "the affine is singular, its axes lie in one plane; expected three independent "
                "directions. Correct the header or convert the scan again");
  }
}

Spacing spacing_mm(const Affine& affine) {
  return {six_digits(length(affine, 0)), six_digits(length(affine, 1)),
          six_digits(length(affine, 2))};
}

std::optional<Spacing> stated_spacing(const double given[3]) {
  const Spacing spacing{given[0], given[1], given[2]};
  if (spacing == Spacing{}) return std::nullopt;
  return spacing;
}

int64_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::int8:
    case ElementType::uint8: return 1;
    case ElementType::int16:
    case ElementType::uint16: return 2;
    case ElementType::int32:
    case ElementType::uint32:
    case ElementType::float32: return 4;
    case ElementType::int64:
    case ElementType::uint64:
    case ElementType::float64: return 8;
  }
  throw Error(ErrorCode::argument, "the element type is none of int8 to float64");
}

void Volume::check() const {
  if (!voxels) throw Error(ErrorCode::argument, "the voxels are NULL");
  check_place();
}

void Volume::check_place() const {
  // Bytes of the float32 image, too, must be countable.
  int64_t left = std::numeric_limits<int64_t>::max() / 64 / element_bytes(type);
  for (const int64_t extent : {channels, shape[0], shape[1], shape[2]}) {
    if (extent < 1 || extent > left) {
      throw Error(ErrorCode::argument,
                  "the volume has " + std::to_string(channels) + " channels of " +
                      std::to_string(shape[0]) + " x " + std::to_string(shape[1]) + " x " +
                      std::to_string(shape[2]) + " voxels; expected at least 1 and addressable");
    }
    left /= extent;
  }
  sgmf::check(affine);
  if (!stated_spacing_mm) return;
  for (const double step : *stated_spacing_mm) {
    if (!(std::isfinite(step) && step > 0)) {
      const auto [x, y, z] = *stated_spacing_mm;
      throw Error(ErrorCode::geometry, "the spacing given beside the affine is " +
                                           numbers(x, y, z) +
                                           " mm; expected three numbers above zero");
    }
  }
}

}  // namespace sgmf
