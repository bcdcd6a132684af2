// Interface between the convolution of one tap and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// Every voxel by itself: y[k][v] = bias[k] + the sum over c of weight[k][c] x[c][v].
struct PointwiseConv {
  int64_t voxels;
  int64_t channels;
  int64_t outputs;
  // (channels, voxels), in two parts: `rest` has the channels from `first_channels` on.
  const float* x;
  const float* rest;
  int64_t first_channels;
  const float* weights;  // packed
  const float* bias;     // (outputs)
  float* y;              // (outputs, voxels)
};

struct PointwiseKernel {
  // Floats of packed weights.
  int64_t (*packed_size)(const PointwiseConv& conv);
  // Packs a weight (outputs, channels).
  void (*pack)(const PointwiseConv& conv, const float* weight, float* packed);
  // Floats of memory that `run` needs.
  int64_t (*scratch)(const PointwiseConv& conv);
  // Computes voxels begin to end.
  void (*run)(const PointwiseConv& conv, int64_t begin, int64_t end, float* scratch);
};

}  // namespace sgmf
