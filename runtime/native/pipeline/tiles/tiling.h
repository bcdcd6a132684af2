// Cutting a volume into tiles and weighing their logits, as nnU-Net v2 or as MONAI does.
//
// Both pad volumes smaller than a tile with zeros, half on either side, and weigh the logits by a
// Gaussian of sigma tile/8. They differ in two things:
//
// * nnU-Net spreads tiles evenly; its Gaussian is truncated, has peak 10 and is rounded to float16.
//   Source: F. Isensee et al., Nature Methods 18, 203-211 (2021), and the behaviour of
//   `nnunetv2`'s predictor.
// * MONAI lays tiles at a fixed stride and moves the last one back inside; its Gaussian is nowhere
//   below 0.001. Source: M. J. Cardoso et al., arXiv:2211.02701 (2022), and the behaviour of
//   `monai.inferers.sliding_window_inference`.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/spec.h"

namespace sgmf {

// First voxels of the tiles along one axis of at least one tile.
std::vector<int64_t> tile_starts(TilingScheme scheme, int64_t extent, int64_t tile, double step);

// Every tile of a volume that is at least one tile large, depth slowest.
std::vector<Box> tile_boxes(const Triple& shape, const Tiling& tiling);

// Weight of each voxel of a tile, C order, positive everywhere.
std::vector<float> tile_weights(const Tiling& tiling);

// The volume that tiles cover, at least one tile large, and where an image lies in it.
struct Padding {
  Triple shape;
  Box place;

  Padding(const Triple& image_shape, const Triple& tile);
};

// An image (channels, *shape) on the network's grid, in C order.
struct Image {
  const float* values = nullptr;
  int64_t channels = 0;
  Triple shape{};
};

// Copies a tile (channels, *box) of an image that lies at `place`, with zeros where it reaches
// beyond.
void cut_tile(const Image& image, const Box& place, const Box& box, float* out);

// All combinations of some axes, the empty one first and the full one last.
std::vector<std::vector<int>> mirrorings(const std::vector<int>& axes);

// Copies (count, *shape) with `axes` of the shape reversed.
void mirror(const float* source, int64_t count, const Triple& shape, const std::vector<int>& axes,
            float* out);

// Adds (count, *shape) to `total`, with `axes` of the shape reversed.
void add_mirrored(const float* source, int64_t count, const Triple& shape,
                  const std::vector<int>& axes, float* total);

}  // namespace sgmf
