// The grid of MONAI's Spacing: voxels exactly as far apart as it is told, the first at the scan's
// first.
// Source: M. J. Cardoso et al., arXiv:2211.02701 (2022), and the behaviour of
// `monai.transforms.Spacing`.
#pragma once

#include "pipeline/geometry/volume.h"
#include "pipeline/spec.h"

namespace sgmf {

struct SpacedGrid {
  Spacing spacing_mm{};
  Triple shape{};
};

// `affine` has a column for each axis of `shape`. An axis keeps its spacing where it is within a
// micrometre of the wanted one, and all keep theirs where that changes next to nothing. Throws
// Error(geometry) where axes are not perpendicular, since no grid along them is then regular, and
// where the grids' first voxels would not coincide.
SpacedGrid spaced_grid(const Affine& affine, const Triple& shape, const Spacing& spacing_mm,
                       const Spacing& wanted_mm);

}  // namespace sgmf
