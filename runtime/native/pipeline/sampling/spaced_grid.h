// The grid of MONAI's Spacing: voxels exactly as far apart as it is told, along the scan's axes,
// made perpendicular; the first at the scan's first, or the centres of both grids at one place.
// Source: M. J. Cardoso et al., arXiv:2211.02701 (2022), and the behaviour of
// `monai.transforms.Spacing`.
#pragma once

#include "pipeline/geometry/volume.h"
#include "pipeline/spec.h"

namespace sgmf {

struct SpacedGrid {
  Spacing spacing_mm{};
  Triple shape{};
  bool centred = false;  // centres coincide, not first voxels
};

// `affine` has a column for each axis of `shape`. An axis keeps its spacing where it is within a
// micrometre of the wanted one, and all keep theirs where that changes next to nothing. Throws
// Error(geometry) where axes are not perpendicular, since no grid along them is then regular, and
// where MONAI's rounding decides on the shape.
SpacedGrid spaced_grid(const Affine& affine, const Triple& shape, const Spacing& spacing_mm,
                       const Spacing& wanted_mm);

}  // namespace sgmf
