// A scan and a label map in memory of the caller, and the scan's place in space.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "pipeline/spec.h"

namespace sgmf {

enum class ElementType {
  int8,
  uint8,
  int16,
  uint16,
  int32,
  uint32,
  int64,
  uint64,
  float32,
  float64,
};

int64_t element_bytes(ElementType type);

// Row by row: from voxel indices (x, y, z, 1) to millimetres along right, anterior, superior.
using Affine = std::array<std::array<double, 4>, 4>;

// Throws Error(geometry) for an affine that is not finite or is singular.
void check(const Affine& affine);

// Distance of neighbours along x, y and z, rounded to six digits: headers hold float32, and an
// oblique scan of 3 mm slices may come out as 3.0000002. Unrounded, such noise would tip
// comparisons with a threshold of exactly 3 and shapes that end on half a voxel.
Spacing spacing_mm(const Affine& affine);

// Spacing that a C structure states beside the affine: none if all three numbers are 0.
std::optional<Spacing> stated_spacing(const double given[3]);

// Borrowed and never written. Stored axes are called x, y and z; voxel (c, x, y, z) is element
// c * strides[0] + x * strides[1] + y * strides[2] + z * strides[3] from `voxels`, so any order of
// axes, also a reversed one, is taken as it is. Elements are aligned as their type demands.
struct Volume {
  const void* voxels = nullptr;
  ElementType type = ElementType::float32;
  int64_t channels = 0;
  Triple shape{};  // x, y, z
  std::array<int64_t, 4> strides{};
  Affine affine{};
  // Distance of neighbours along x, y and z as the reader of the network's training would have
  // taken it, in full precision; none uses the affine's. It decides the network's grid; the affine
  // alone decides where voxels lie.
  std::optional<Spacing> stated_spacing_mm;

  Spacing spacing() const { return stated_spacing_mm.value_or(spacing_mm(affine)); }
  int64_t bytes() const { return channels * shape[0] * shape[1] * shape[2] * element_bytes(type); }
  // Throws Error: argument for null voxels, a shape below one or too large to address; geometry
  // for an affine that is not finite or is singular, or a spacing that is not above zero.
  void check() const;
  // The same but for the voxels, which may be null.
  void check_place() const;
};

// Memory for labels on the scan's own grid: (x, y, z) is element x * strides[0] + y * strides[1] +
// z * strides[2]. uint8 or uint16; every voxel is written.
struct LabelBuffer {
  void* labels = nullptr;
  ElementType type = ElementType::uint8;
  std::array<int64_t, 3> strides{};

  int64_t bytes_per_label() const { return element_bytes(type); }
};

}  // namespace sgmf
