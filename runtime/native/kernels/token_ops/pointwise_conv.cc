#include "kernels/token_ops/pointwise_conv.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace sgmf {
namespace {

// Weights are packed anew in every run: a session would hold them a second time.
std::unique_ptr<float[]> pack(const TokenOpCall& call, const PointwiseConv& conv,
                              bool is_transposed, const Workers& workers) {
  const PointwiseKernel& kernel = *workers.kernels.pointwise;
  std::unique_ptr<float[]> packed(new float[kernel.packed_size(conv)]);
  const int64_t groups = kernel.groups(conv);
  for_each_span(workers.parallel, groups, kernel.packed_size(conv) / groups,
                [&](int64_t begin, int64_t end) {
                  kernel.pack(conv, call.data(1), is_transposed, begin, end, packed.get());
                });
  return packed;
}

// Runs a description of all but the arrays on every entry of a batch.
void run(const TokenOpCall& call, PointwiseConv conv, bool is_transposed, float* y,
         const Workers& workers) {
  const PointwiseKernel& kernel = *workers.kernels.pointwise;
  const std::unique_ptr<float[]> packed = pack(call, conv, is_transposed, workers);
  conv.weights = packed.get();
  conv.bias = call.data(2);
  const int64_t voxels = conv.voxels();
  for (int64_t b = 0; b < call.shape(0)[0]; ++b) {
    conv.x = call.data(0) + b * conv.first_channels * voxels;
    if (call.inputs.size() > 3) conv.rest = call.data(3) + b * call.shape(3)[1] * voxels;
    conv.y = y + b * conv.rows() * voxels;
    for_each_span(workers.parallel, divide_up(voxels, kernel.block), kernel.block * conv.rows(),
                  [&](int64_t begin, int64_t end) {
                    std::vector<float> scratch(kernel.scratch(conv));
                    kernel.run(conv, begin * kernel.block, std::min(end * kernel.block, voxels),
                               scratch.data());
                  });
  }
}

bool is_supported(const Shape& weight) {
  return weight.size() == 5 && weight[2] > 0 && weight[3] > 0 && (weight[4] == 1 || weight[4] == 2);
}

Shape check_transposed(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  if (x.size() != 5 || !is_supported(weight) || weight[0] != x[1] ||
      call.shape(2) != Shape{weight[1]}) {
    refuse_shapes("ConvTranspose3d", "x (B, C, D, H, W), weight (C, K, k, k', 1 or 2) and bias (K)",
                  call);
  }
  const auto& strides = call.attributes.strides;
  if (!std::equal(strides.begin(), strides.end(), weight.begin() + 2)) {
    throw std::invalid_argument(
        "ConvTranspose3d: strides must be the extents of the kernel; found " +
        to_string({strides.begin(), strides.end()}));
  }
  return {x[0], weight[1], x[2] * weight[2], x[3] * weight[3], x[4] * weight[4]};
}

void run_transposed(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  PointwiseConv conv{};
  conv.extents = {x[2], x[3], x[4]};
  conv.taps = call.attributes.strides;
  conv.channels = conv.first_channels = x[1];
  conv.outputs = weight[1];
  run(call, conv, true, y, workers);
}

}  // namespace

void run_pointwise(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  PointwiseConv conv{};
  conv.extents = {1, 1, x[2] * x[3] * x[4]};
  conv.taps = {1, 1, 1};
  conv.channels = weight[1];
  conv.first_channels = x[1];
  conv.outputs = weight[0];
  run(call, conv, false, y, workers);
}

extern const TokenOp conv_transpose3d_op = {"ConvTranspose3d", 3, -1, false, check_transposed,
                                            run_transposed};

}  // namespace sgmf
