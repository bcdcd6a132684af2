#include <algorithm>
#include <memory>
#include <stdexcept>

#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "PatchEmbed";

void check_shapes(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const bool ranks = x.size() == 5 && weight.size() == 5;
  if (!ranks || weight[1] != x[1] || *std::min_element(weight.begin() + 2, weight.end()) < 1 ||
      call.shape(2) != Shape{weight[0]}) {
    refuse_shapes(name, "x (B, Cin, D, H, W), weight (Cout, Cin, kd, kh, kw) and bias (Cout)",
                  call);
  }
}

// More would be a mistake, and take memory without end.
constexpr int64_t longest = 1024;

void check_attributes(const Attributes& given) {
  for (int64_t stride : given.strides) {
    if (stride >= 1 && stride <= longest) continue;
    throw std::invalid_argument(std::string(name) +
                                ": strides must be three numbers from 1 to 1024; found " +
                                to_string({given.strides.begin(), given.strides.end()}));
  }
  for (int64_t pad : given.pads) {
    if (pad >= 0 && pad <= longest) continue;
    throw std::invalid_argument(std::string(name) +
                                ": pads must be six numbers from 0 to 1024; found " +
                                to_string({given.pads.begin(), given.pads.end()}));
  }
}

Shape check(const TokenOpCall& call) {
  check_shapes(call);
  check_attributes(call.attributes);
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const Attributes& given = call.attributes;
  Shape y = {x[0]};
  for (int i = 0; i < 3; ++i) {
    const int64_t room = x[2 + i] + given.pads[i] + given.pads[3 + i] - weight[2 + i];
    if (room < 0) refuse_shapes(name, "a padded volume that holds the kernel", call);
    y.push_back(room / given.strides[i] + 1);
  }
  y.push_back(weight[0]);
  return y;
}

PatchEmbed describe(const TokenOpCall& call, float* y) {
  const Shape& weight = call.shape(1);
  const Shape output = check(call);
  PatchEmbed op{};
  op.input_channels = weight[1];
  op.channels = weight[0];
  for (int i = 0; i < 3; ++i) {
    op.input[i] = call.shape(0)[2 + i];
    op.kernel[i] = weight[2 + i];
    op.stride[i] = call.attributes.strides[i];
    op.pad[i] = call.attributes.pads[i];
    op.output[i] = output[1 + i];
  }
  op.x = call.data(0);
  op.bias = call.data(2);
  op.y = y;
  return op;
}

std::vector<float> pack(const float* weight, int64_t channels, int64_t taps) {
  constexpr int64_t group = patch_channel_group;
  std::vector<float> packed(divide_up(channels, group) * group * taps);
  for (int64_t c = 0; c < channels; ++c) {
    float* to = packed.data() + c / group * group * taps + c % group;
    for (int64_t k = 0; k < taps; ++k) to[k * group] = weight[c * taps + k];
  }
  return packed;
}

// Rows of outputs such that what they read stays in a core's second cache, and some blocks for
// each thread.
std::vector<PatchRows> make_blocks(const PatchEmbed& op, int64_t batch, const Workers& workers) {
  constexpr int64_t cached_floats = 1024 * 1024 / 4;
  const int64_t least_blocks = 4 * workers.threads;
  const int64_t height = op.output[1];
  int64_t rows = height;
  while (rows > 1 && (workers.kernels.patch_embed_scratch(op, rows) > cached_floats ||
                      batch * op.output[0] * divide_up(height, rows) < least_blocks)) {
    rows = divide_up(rows, 2);
  }
  std::vector<PatchRows> blocks;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t d = 0; d < op.output[0]; ++d) {
      for (int64_t h = 0; h < height; h += rows) {
        blocks.push_back({b, d, h, std::min(h + rows, height)});
      }
    }
  }
  return blocks;
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  PatchEmbed op = describe(call, y);
  const int64_t taps = op.input_channels * op.kernel[0] * op.kernel[1] * op.kernel[2];
  const std::vector<float> weights = pack(call.data(1), op.channels, taps);
  op.weights = weights.data();
  const CpuKernels& kernels = workers.kernels;
  const std::vector<PatchRows> blocks = make_blocks(op, call.shape(0)[0], workers);
  workers.parallel(blocks.size(), [&](std::size_t i) {
    const int64_t rows = blocks[i].height_end - blocks[i].height_begin;
    // The kernel fills it, so that nothing needs to be cleared before.
    const std::unique_ptr<float[]> scratch(new float[kernels.patch_embed_scratch(op, rows)]);
    kernels.patch_embed(op, blocks[i], scratch.get());
  });
}

}  // namespace

extern const TokenOp patch_embed_op = {name, 3, -1, false, check, run};

}  // namespace sgmf
