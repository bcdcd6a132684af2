// Interface between the instance normalisation and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// For every channel the mean of some tokens and the sum of their squared distances from it.
struct Moments {
  int64_t tokens;
  double* mean;
  double* spread;
};

enum class Activation { gelu, relu, leaky };

// y = activation((x - centre) * gain + offset), all three (channels). The slope is that of the
// leaky ReLU, from 0 to 1.
struct Normalise {
  const float* centre;
  const float* gain;
  const float* offset;
  Activation activation;
  float slope;
};

struct InstanceNormKernel {
  // Sets the moments of `tokens` x `channels` floats.
  void (*measure)(const float* x, int64_t tokens, int64_t channels, Moments* moments);
  void (*normalise)(const Normalise& how, const float* x, int64_t tokens, int64_t channels,
                    float* y);
};

}  // namespace sgmf
