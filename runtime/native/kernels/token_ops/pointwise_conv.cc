#include "kernels/token_ops/pointwise_conv.h"

#include <algorithm>

namespace sgmf {

void run_pointwise(const TokenOpCall& call, float* y, const Workers& workers) {
  const PointwiseKernel& kernel = *workers.kernels.pointwise;
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  PointwiseConv conv{};
  conv.voxels = x[2] * x[3] * x[4];
  conv.channels = weight[1];
  conv.first_channels = x[1];
  conv.outputs = weight[0];
  conv.bias = call.data(2);
  std::vector<float> packed(kernel.packed_size(conv));
  kernel.pack(conv, call.data(1), packed.data());
  conv.weights = packed.data();
  for (int64_t b = 0; b < x[0]; ++b) {
    conv.x = call.data(0) + b * conv.first_channels * conv.voxels;
    if (call.inputs.size() > 3) conv.rest = call.data(3) + b * call.shape(3)[1] * conv.voxels;
    conv.y = y + b * conv.outputs * conv.voxels;
    for_each_span(workers.parallel, conv.voxels, conv.outputs, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(kernel.scratch(conv));
      kernel.run(conv, begin, end, scratch.data());
    });
  }
}

}  // namespace sgmf
