// Reorientation from the stored axes of a scan to the network's, by its affine and never by shape.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "pipeline/geometry/box.h"
#include "pipeline/geometry/volume.h"
#include "pipeline/spec.h"

namespace sgmf {

// Axis i of the result is axis axes[i] of the input, and runs against it where reverse[i].
struct Reorientation {
  std::array<int, 3> axes{0, 1, 2};
  std::array<bool, 3> reverse{};

  // This, and then a transposition: axis i of its result is axis order[i].
  Reorientation then_permute(const std::array<int, 3>& order) const;
};

// The reorientation after which axes run as nearly as possible towards `codes`, such as RAS. Each
// axis is matched with the direction that the rotation nearest to the affine turns it to, best
// match first.
Reorientation orient_to(const Affine& affine, const std::string& codes);

// From stored axes (x, y, z) to the network's (depth, height, width).
Reorientation network_axes(const Affine& affine, const Preprocessing& spec);

template <typename T>
std::array<T, 3> reordered(const std::array<T, 3>& values, const Reorientation& by) {
  return {values[by.axes[0]], values[by.axes[1]], values[by.axes[2]]};
}

// The affine of a box of a reoriented volume.
Affine reordered(const Affine& affine, const Triple& stored_shape, const Reorientation& by,
                 const Box& box);

// Places of a reoriented array's elements in the array as it is stored.
struct Layout {
  Triple shape{};
  Triple strides{};
  int64_t first = 0;

  Layout(const Triple& stored_shape, const Triple& stored_strides, const Reorientation& by);
};

}  // namespace sgmf
