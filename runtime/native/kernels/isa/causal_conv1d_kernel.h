// Interface between the causal convolution and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// Tokens are numbered through the batch.
struct CausalConv1d {
  int64_t length;
  int64_t channels;
  int64_t taps_count;
  int64_t before;  // tokens that the window reaches back
  const float* x;
  const float* taps;  // (taps_count, channels)
  const float* bias;  // (channels)
  float* y;
};

}  // namespace sgmf
