// Interface between the patch embedding and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// Output channels whose weights lie side by side, one group after the other.
constexpr int64_t patch_channel_group = 12;

struct PatchEmbed {
  int64_t input_channels;
  int64_t input[3];  // depth, height, width, as of the following
  int64_t kernel[3];
  int64_t stride[3];
  int64_t pad[3];  // before
  int64_t output[3];
  int64_t channels;
  const float* x;        // (batch, input_channels, input)
  const float* weights;  // (groups, input_channels, kernel, patch_channel_group)
  const float* bias;     // (channels)
  float* y;              // (batch, output, channels)
};

// Rows of outputs in one plane.
struct PatchRows {
  int64_t batch;
  int64_t depth;
  int64_t height_begin;
  int64_t height_end;
};

}  // namespace sgmf
