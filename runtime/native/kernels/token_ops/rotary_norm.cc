#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "RotaryNorm";

Shape check(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const bool fits = x.size() == 5 && x[4] % 6 == 0 &&
                    call.shape(1) == Shape{x[1] + x[2] + x[3], x[4] / 3} &&
                    call.shape(2) == call.shape(1) && call.shape(3) == Shape{x[4]} &&
                    call.shape(4) == Shape{x[4]};
  if (!fits) {
    refuse_shapes(name,
                  "x (B, D, H, W, C) with six channels or a multiple, cos and sin "
                  "(D + H + W, C / 3), scale (C) and shift (C)",
                  call);
  }
  return x;
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& x = call.shape(0);
  const int64_t depth = x[1], height = x[2], width = x[3], third = x[4] / 3;
  const LayerNorm norm{x[4], call.attributes.epsilon, call.data(3), call.data(4)};
  const auto run_row = [&](int64_t row) {
    const int64_t first[] = {row / height % depth, depth + row % height, depth + height};
    RotaryRow how{third / 2, {}, {}};
    for (int axis = 0; axis < 3; ++axis) {
      how.cos[axis] = call.data(1) + first[axis] * third;
      how.sin[axis] = call.data(2) + first[axis] * third;
    }
    const int64_t at = row * width * x[4];
    workers.kernels.rotate_row(how, call.data(0) + at, width, y + at);
    workers.kernels.linear->normalise(norm, y + at, width, y + at);
  };
  for_each_span(workers.parallel, x[0] * depth * height, width * x[4],
                [&](int64_t begin, int64_t end) {
                  for (int64_t row = begin; row < end; ++row) run_row(row);
                });
}

}  // namespace

extern const TokenOp rotary_norm_op = {name, 5, 0, false, check, run};

}  // namespace sgmf
