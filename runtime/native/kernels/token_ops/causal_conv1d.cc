#include <stdexcept>

#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "CausalConv1dSilu";

Shape check(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const bool ranks = x.size() == 3 && weight.size() == 3;
  if (!ranks || weight != Shape{x[2], 1, weight[2]} || weight[2] < 1 ||
      call.shape(2) != Shape{x[2]}) {
    refuse_shapes(name, "x (B, L, C), weight (C, 1, K) and bias (C)", call);
  }
  const Attributes& given = call.attributes;
  if (given.group != x[2]) {
    throw std::invalid_argument(std::string(name) + ": group must be the channels, " +
                                std::to_string(x[2]) + "; found " + std::to_string(given.group));
  }
  const int64_t before = given.pads[0], after = given.pads[1];
  if (before < 0 || after < 0 || before > weight[2] || before + after != weight[2] - 1) {
    throw std::invalid_argument(std::string(name) + ": pads must add up to K - 1, " +
                                std::to_string(weight[2] - 1) + "; found " +
                                to_string({before, after}));
  }
  return x;
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& x = call.shape(0);
  const int64_t count = call.shape(1)[2];
  const std::vector<float> taps = taps_first(call.data(1), x[2], count);
  const CausalConv1d conv{x[1],         x[2],        count,        call.attributes.pads[0],
                          call.data(0), taps.data(), call.data(2), y};
  for_each_span(workers.parallel, x[0] * x[1], x[2], [&](int64_t begin, int64_t end) {
    workers.kernels.causal_conv1d_silu(conv, begin, end);
  });
}

}  // namespace

extern const TokenOp causal_conv1d_silu_op = {name, 3, 0, false, check, run, 1};

}  // namespace sgmf
