// Interface between the depthwise convolution and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

struct DepthwiseConv3d {
  int64_t depth;
  int64_t height;
  int64_t width;
  int64_t channels;
  const float* x;     // (batch, depth, height, width, channels)
  const float* taps;  // (3, 3, 3, channels)
  const float* bias;  // (channels)
  float* y;
};

// Rows of outputs, a row being width x channels floats. Planes are gone through one after the
// other: those around one should fit the cache.
struct RowBlock {
  int64_t batch;
  int64_t depth_begin;
  int64_t depth_end;
  int64_t height_begin;
  int64_t height_end;
};

}  // namespace sgmf
