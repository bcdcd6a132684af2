// Interface between convolutions that take every voxel by itself and their kernels, one for each
// instruction set.
#pragma once

#include <array>
#include <cstdint>

namespace sgmf {

// A convolution of one tap, or a transposed one whose kernel is its stride: each voxel becomes a
// block of outputs, one for each tap, that no other voxel adds to.
struct PointwiseConv {
  std::array<int64_t, 3> extents;  // depth, height and width of x
  std::array<int64_t, 3> taps;     // of a voxel's block of outputs; along the width 1 or 2
  int64_t channels;
  int64_t outputs;
  // (channels, extents), in two parts: `rest` has the channels from `first_channels` on.
  const float* x;
  const float* rest;
  int64_t first_channels;
  const float* weights;  // packed
  const float* bias;     // (outputs)
  float* y;              // (outputs, extents times taps)

  int64_t voxels() const { return extents[0] * extents[1] * extents[2]; }
  int64_t taps_of_output() const { return taps[0] * taps[1] * taps[2]; }
  int64_t rows() const { return outputs * taps_of_output(); }  // of weights
};

struct PointwiseKernel {
  int block;  // voxels that are computed together
  // Groups of rows of weights, which are packed apart.
  int64_t (*groups)(const PointwiseConv& conv);
  // Floats of packed weights.
  int64_t (*packed_size)(const PointwiseConv& conv);
  // Packs groups begin to end of a weight (outputs, channels), or transposed (channels, outputs,
  // taps).
  void (*pack)(const PointwiseConv& conv, const float* weight, bool is_transposed, int64_t begin,
               int64_t end, float* packed);
  // Floats of memory that `run` needs.
  int64_t (*scratch)(const PointwiseConv& conv);
  // Computes the outputs of voxels begin to end.
  void (*run)(const PointwiseConv& conv, int64_t begin, int64_t end, float* scratch);
};

}  // namespace sgmf
