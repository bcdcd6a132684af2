#include <algorithm>
#include <stdexcept>

#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "Conv3d";

Shape check(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const int64_t taps = weight.size() == 5 ? weight[2] : 0;
  if (x.size() != 5 || (taps != 1 && taps != 3) || weight != Shape{weight[0], x[1], taps, 3, 3} ||
      call.shape(2) != Shape{weight[0]}) {
    refuse_shapes(name, "x (B, C, D, H, W), weight (K, C, 3, 3, 3) or (K, C, 1, 3, 3) and bias (K)",
                  call);
  }
  const int64_t pad = taps / 2;
  if (call.attributes.pads != std::array<int64_t, 6>{pad, 1, 1, pad, 1, 1}) {
    throw std::invalid_argument(std::string(name) +
                                ": pads must keep the extents of x, one on each side of an axis " +
                                "of three taps");
  }
  return {x[0], weight[0], x[2], x[3], x[4]};
}

Conv3d describe(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  return {x[2],    x[3],    x[4],         x[1],   weight[0], static_cast<int>(weight[2]),
          nullptr, nullptr, call.data(2), nullptr};
}

int64_t tile_count(const Conv3d& conv) {
  const int64_t planes = conv.depth_taps == 3 ? (conv.depth + 1) / 2 : conv.depth;
  return planes * ((conv.height + 1) / 2) * ((conv.width + 1) / 2);
}

std::vector<float> pack(const TokenOpCall& call, const Workers& workers) {
  const Conv3dKernel& kernel = *workers.kernels.conv3d;
  const Conv3d conv = describe(call);
  std::vector<float> packed(kernel.packed_size(conv));
  workers.parallel(divide_up(conv.outputs, kernel.group), [&](std::size_t i) {
    const int64_t begin = static_cast<int64_t>(i) * kernel.group;
    kernel.pack(conv, call.data(1), begin, std::min(begin + kernel.group, conv.outputs),
                packed.data());
  });
  return packed;
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  constexpr int64_t tasks_per_thread = 8;
  const Conv3dKernel& kernel = *workers.kernels.conv3d;
  Conv3d conv = describe(call);
  const std::vector<float> own = call.packed ? std::vector<float>() : pack(call, workers);
  conv.weights = call.packed ? call.packed : own.data();
  const int64_t voxels = conv.depth * conv.height * conv.width;
  const int64_t tiles = tile_count(conv);
  const int64_t blocks = divide_up(tiles, kernel.block);
  const int64_t span =
      divide_up(blocks, std::min(blocks, tasks_per_thread * workers.threads)) * kernel.block;
  for (int64_t b = 0; b < call.shape(0)[0]; ++b) {
    conv.x = call.data(0) + b * conv.channels * voxels;
    conv.y = y + b * conv.outputs * voxels;
    workers.parallel(divide_up(tiles, span), [&](std::size_t i) {
      std::vector<float> scratch(kernel.scratch(conv));
      const int64_t begin = static_cast<int64_t>(i) * span;
      kernel.run(conv, begin, std::min(begin + span, tiles), scratch.data());
    });
  }
}

}  // namespace

extern const TokenOp conv3d_op = {name, 3, -1, false, check, run, 3, pack};

}  // namespace sgmf
