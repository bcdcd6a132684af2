// Interface between the dense convolution of volumes and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// A convolution of 3x3x3 or 1x3x3 taps, its input padded with a zero on each side of an axis of
// three taps.
struct Conv3d {
  int64_t depth;
  int64_t height;
  int64_t width;
  int64_t channels;
  int64_t outputs;
  int depth_taps;    // 3 or 1
  int depth_stride;  // 1 or 2; 2 for three taps and a plane's stride of 2
  int plane_stride;  // 1 or 2
  int tile;          // outputs along height and width that are computed together, 2 or 4
  // (channels, depth, height, width), in two parts: `rest` has those from `first_channels` on.
  const float* x;
  const float* rest;
  int64_t first_channels;
  const float* weights;  // packed
  const float* bias;     // (outputs)
  float* y;              // (outputs, depth, height, width) of the outputs

  int64_t out_depth() const { return (depth - 1) / depth_stride + 1; }
  int64_t out_height() const { return (height - 1) / plane_stride + 1; }
  int64_t out_width() const { return (width - 1) / plane_stride + 1; }
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
