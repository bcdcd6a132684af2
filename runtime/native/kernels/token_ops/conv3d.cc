#include <algorithm>
#include <memory>
#include <stdexcept>

#include "kernels/token_ops/pointwise_conv.h"
#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

// Channels of x and of the input that follows it, if there is one.
int64_t channels_of(const TokenOpCall& call) {
  return call.shape(0)[1] + (call.inputs.size() > 3 ? call.shape(3)[1] : 0);
}

bool extents_fit(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  if (x.size() != 5) return false;
  if (call.inputs.size() == 3) return true;
  const Shape& rest = call.shape(3);
  return rest.size() == 5 && rest == Shape{x[0], rest[1], x[2], x[3], x[4]};
}

// Strides of the three axes; ones where the node leaves them out, as in ONNX's Conv.
std::array<int64_t, 3> strides_of(const TokenOpCall& call) {
  const std::array<int64_t, 3>& given = call.attributes.strides;
  return given == std::array<int64_t, 3>{} ? std::array<int64_t, 3>{1, 1, 1} : given;
}

// Taps along the depth and along the other axes of a weight that there are kernels for, or zeros.
struct Taps {
  int64_t depth = 0;
  int64_t plane = 0;
};

Taps taps_of(const Shape& weight) {
  if (weight.size() != 5 || weight[3] != weight[4]) return {};
  const Taps taps{weight[2], weight[3]};
  const bool is_known =
      taps.plane == 3 ? taps.depth == 3 || taps.depth == 1 : taps.plane == 1 && taps.depth == 1;
  return is_known ? taps : Taps{};
}

void check_attributes(const TokenOpCall& call, const char* name, Taps taps) {
  using Strides = std::array<int64_t, 3>;
  const int64_t d = taps.depth / 2;
  const int64_t p = taps.plane / 2;
  if (call.attributes.pads != std::array<int64_t, 6>{d, p, p, d, p, p}) {
    throw std::invalid_argument(std::string(name) +
                                ": pads must be one on each side of an axis of three taps");
  }
  const Strides strides = strides_of(call);
  const bool is_known = strides == Strides{1, 1, 1} ||
                        (taps.plane == 3 && strides == Strides{1, 2, 2}) ||
                        (taps.depth == 3 && strides == Strides{2, 2, 2});
  if (!is_known) {
    throw std::invalid_argument(std::string(name) +
                                ": strides must be 1 1 1, with taps in a plane 1 2 2 or with 3x3x3 "
                                "taps 2 2 2; found " +
                                to_string({strides.begin(), strides.end()}));
  }
}

Shape check_call(const TokenOpCall& call, const char* name, const char* expected) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const Taps taps = taps_of(weight);
  if (!extents_fit(call) || !taps.depth || weight[1] != channels_of(call) ||
      call.shape(2) != Shape{weight[0]}) {
    refuse_shapes(name, expected, call);
  }
  check_attributes(call, name, taps);
  Shape y{x[0], weight[0]};
  for (std::size_t i = 0; i < 3; ++i) y.push_back(divide_up(x[2 + i], strides_of(call)[i]));
  return y;
}

Shape check(const TokenOpCall& call) {
  return check_call(call, "Conv3d",
                    "x (B, C, D, H, W), weight (K, C, 3, 3, 3), (K, C, 1, 3, 3) or (K, C, 1, 1, 1) "
                    "and bias (K)");
}

Shape check_concat(const TokenOpCall& call) {
  return check_call(call, "ConcatConv3d",
                    "x (B, C, D, H, W), weight (K, C + R, 3, 3, 3), (K, C + R, 1, 3, 3) or "
                    "(K, C + R, 1, 1, 1), bias (K) and rest (B, R, D, H, W)");
}

Conv3d describe(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  Conv3d conv{};
  conv.depth = x[2];
  conv.height = x[3];
  conv.width = x[4];
  conv.channels = channels_of(call);
  conv.first_channels = x[1];
  conv.outputs = weight[0];
  conv.depth_taps = static_cast<int>(weight[2]);
  conv.depth_stride = static_cast<int>(strides_of(call)[0]);
  conv.plane_stride = static_cast<int>(strides_of(call)[1]);
  conv.bias = call.data(2);
  return conv;
}

// Products of the blocks of tiles and of the packing of weights, which takes the time of about 30
// tiles. Those of larger tiles take longer each, as more of the time goes into transforms.
double work(Conv3d conv, int tile, const Conv3dKernel& kernel) {
  constexpr int64_t tiles_of_packing = 30;
  conv.tile = tile;
  const int64_t blocks = divide_up(kernel.tiles(conv), kernel.block);
  const auto products = static_cast<double>((tile + 2) * (tile + 2));
  return products * (blocks * kernel.block + tiles_of_packing) * (tile == 4 ? 1.15 : 1.0);
}

int choose_tile(const Conv3d& conv, const Conv3dKernel& kernel) {
  if (conv.plane_stride == 2) return 2;
  return work(conv, 4, kernel) < work(conv, 2, kernel) ? 4 : 2;
}

// Weights are packed anew in every run: they take 64/27 of the memory of those given, or 144/27,
// which a session would hold for every convolution.
std::unique_ptr<float[]> pack(const TokenOpCall& call, const Conv3d& conv, const Workers& workers) {
  const Conv3dKernel& kernel = *workers.kernels.conv3d;
  std::unique_ptr<float[]> packed(new float[kernel.packed_size(conv)]);
  workers.parallel(kernel.groups(conv), [&](std::size_t i) {
    kernel.pack(conv, call.data(1), static_cast<int64_t>(i), packed.get());
  });
  return packed;
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  if (taps_of(call.shape(1)).plane == 1) return run_pointwise(call, y, workers);
  constexpr int64_t tasks_per_thread = 8;
  const Conv3dKernel& kernel = *workers.kernels.conv3d;
  Conv3d conv = describe(call);
  conv.tile = choose_tile(conv, kernel);
  const std::unique_ptr<float[]> packed = pack(call, conv, workers);
  conv.weights = packed.get();
  const int64_t voxels = conv.depth * conv.height * conv.width;
  const int64_t tiles = kernel.tiles(conv);
  const int64_t blocks = divide_up(tiles, kernel.block);
  const int64_t span =
      divide_up(blocks, std::min(blocks, tasks_per_thread * workers.threads)) * kernel.block;
  for (int64_t b = 0; b < call.shape(0)[0]; ++b) {
    conv.x = call.data(0) + b * conv.first_channels * voxels;
    if (call.inputs.size() > 3) conv.rest = call.data(3) + b * call.shape(3)[1] * voxels;
    conv.y = y + b * conv.outputs * conv.out_depth() * conv.out_height() * conv.out_width();
    workers.parallel(divide_up(tiles, span), [&](std::size_t i) {
      std::vector<float> scratch(kernel.scratch(conv));
      const int64_t begin = static_cast<int64_t>(i) * span;
      kernel.run(conv, begin, std::min(begin + span, tiles), scratch.data());
    });
  }
}

}  // namespace

extern const TokenOp conv3d_op = {"Conv3d", 3, -1, false, check, run};
extern const TokenOp concat_conv3d_op = {"ConcatConv3d", 4, -1, false, check_concat, run};

}  // namespace sgmf
