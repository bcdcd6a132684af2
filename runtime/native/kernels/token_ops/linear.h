// Products of tokens with a weight, for ops that make the tokens or use the result themselves.
#pragma once

#include <functional>
#include <vector>

#include "kernels/token_ops/token_op.h"

namespace sgmf {

// A call's weight (C, K), input 1, as the kernels read it.
std::vector<float> pack_linear(const TokenOpCall& call, const Workers& workers);

// The weight of a call, packed if that was not done before, and its bias, input 2.
class CallWeights {
 public:
  CallWeights(const TokenOpCall& call, const Workers& workers);

  const Linear& how() const { return how_; }

 private:
  std::vector<float> own_;
  Linear how_;
};

// The shape of x weight + bias; empty unless inputs 0 to 2 fit.
Shape product_shape(const TokenOpCall& call);

}  // namespace sgmf
