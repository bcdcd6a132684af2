// The factors by which an instance norm scales the channels of token-major tensors.
#pragma once

#include <vector>

#include "kernels/token_ops/token_op.h"

namespace sgmf {

// y = (x - centre) * gain + offset. What the mean loses as a float goes into the offset.
struct NormFactors {
  std::vector<float> centre;
  std::vector<float> gain;
  std::vector<float> offset;

  Normalise with(Activation activation, float slope) const {
    return {centre.data(), gain.data(), offset.data(), activation, slope};
  }
};

// Of one entry of a batch, x (tokens, channels), for scale and bias (channels).
NormFactors find_factors(const float* x, int64_t tokens, int64_t channels, const float* scale,
                         const float* bias, float epsilon, const Workers& workers);

}  // namespace sgmf
