#include <algorithm>
#include <stdexcept>

#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "DepthwiseConv3d";

Shape check(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const int64_t channels = x.size() == 5 ? x[4] : 0;
  if (x.size() != 5 || call.shape(1) != Shape{channels, 1, 3, 3, 3} ||
      call.shape(2) != Shape{channels}) {
    refuse_shapes(name, "x (B, D, H, W, C), weight (C, 1, 3, 3, 3) and bias (C)", call);
  }
  if (call.attributes.group != channels) {
    throw std::invalid_argument(std::string(name) + ": group must be the channels, " +
                                std::to_string(channels) + "; found " +
                                std::to_string(call.attributes.group));
  }
  return x;
}

// Blocks of rows such that four planes of a block and its neighbours stay in a core's second
// cache, and some for each thread. No more than that: a block begins with nothing in its cache.
std::vector<RowBlock> make_blocks(const Shape& x, int threads) {
  constexpr int64_t cached_floats = 768 * 1024 / 4;
  constexpr int64_t smallest_depth = 4;  // below, most of what is read is read again elsewhere
  const int64_t least_blocks = 4 * threads;
  const int64_t rows = std::max<int64_t>(1, cached_floats / (4 * x[3] * x[4]) - 2);
  const int64_t across = divide_up(x[2], rows);
  const int64_t along = std::clamp<int64_t>(divide_up(least_blocks, x[0] * across), 1,
                                            divide_up(x[1], smallest_depth));
  std::vector<RowBlock> blocks;
  for (int64_t b = 0; b < x[0]; ++b) {
    for (int64_t i = 0; i < along; ++i) {
      for (int64_t j = 0; j < across; ++j) {
        blocks.push_back({b, x[1] * i / along, x[1] * (i + 1) / along, x[2] * j / across,
                          x[2] * (j + 1) / across});
      }
    }
  }
  return blocks;
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& x = call.shape(0);
  const std::vector<float> taps = taps_first(call.data(1), x[4], 27);
  const DepthwiseConv3d conv{x[1], x[2], x[3], x[4], call.data(0), taps.data(), call.data(2), y};
  const std::vector<RowBlock> blocks = make_blocks(x, workers.threads);
  workers.parallel(blocks.size(),
                   [&](std::size_t i) { workers.kernels.depthwise_conv3d(conv, blocks[i]); });
}

}  // namespace

extern const TokenOp depthwise_conv3d_op = {name, 3, 0, false, check, run};

}  // namespace sgmf
