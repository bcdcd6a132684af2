// Interface between the dense convolution of volumes and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// A convolution of 3x3x3 or 1x3x3 taps, stride one, its input padded with zeros to the same size.
struct Conv3d {
  int64_t depth;
  int64_t height;
  int64_t width;
  int64_t channels;
  int64_t outputs;
  int depth_taps;  // 3 or 1
  int tile;        // outputs along height and width that are computed together, 2 or 4
  // (channels, depth, height, width), in two parts: `rest` has those from `first_channels` on.
  const float* x;
  const float* rest;
  int64_t first_channels;
  const float* weights;  // packed
  const float* bias;     // (outputs)
  float* y;              // (outputs, depth, height, width)
};

// Tiles of outputs, two or with one tap one along the depth, numbered row by row and plane by
// plane, the last ones reaching beyond the volume where an extent is no multiple.
struct Conv3dKernel {
  int block;  // tiles that are computed together
  int64_t (*tiles)(const Conv3d& conv);
  // Groups of outputs, which are packed apart.
  int64_t (*groups)(const Conv3d& conv);
  // Floats of packed weights.
  int64_t (*packed_size)(const Conv3d& conv);
  // Packs weights (outputs, channels, depth_taps, 3, 3) of one group of outputs.
  void (*pack)(const Conv3d& conv, const float* weights, int64_t group, float* packed);
  // Floats of memory that `run` needs.
  int64_t (*scratch)(const Conv3d& conv);
  // Computes tiles begin to end; begin is a multiple of `block`.
  void (*run)(const Conv3d& conv, int64_t begin, int64_t end, float* scratch);
};

}  // namespace sgmf
