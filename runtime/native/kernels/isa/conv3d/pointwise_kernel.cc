// The convolution of one tap, compiled once for each instruction set.
//
// Voxels are copied some blocks at a time: channels lie far apart, often by a power of two, so that
// a block of all channels would fight for the same few places of the cache.
#include "kernels/isa/conv3d/pointwise_kernel.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa/conv3d/block_products.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::PointwiseConv;

constexpr int64_t blocks_at_once = 8;
constexpr int64_t span = blocks_at_once * block;

int64_t groups_of(const Conv& conv) { return divide_up(conv.outputs, group); }

int64_t packed_size(const Conv& conv) { return groups_of(conv) * conv.channels * group; }

// (groups, channels, group), zeros beyond the outputs.
void pack(const Conv& conv, const float* weight, float* packed) {
  for (int64_t k = 0; k < groups_of(conv) * group; ++k) {
    float* to = packed + k / group * conv.channels * group + k % group;
    for (int64_t c = 0; c < conv.channels; ++c) {
      to[c * group] = k < conv.outputs ? weight[k * conv.channels + c] : 0.0f;
    }
  }
}

int64_t scratch(const Conv& conv) { return span * conv.channels; }

// `size` voxels of a channel, a block every `step` floats, zeros after the last one.
void copy_channel(const float* x, int64_t size, int64_t step, float* inputs) {
  for (; size > 0; size -= block, x += block, inputs += step) {
    if (size < block) std::memset(inputs, 0, block * sizeof(float));
    std::memcpy(inputs, x, std::min<int64_t>(size, block) * sizeof(float));
  }
}

// Voxels from `begin` on as (blocks, channels, block).
void copy_inputs(const Conv& conv, int64_t begin, int64_t size, float* inputs) {
  for (int64_t c = 0; c < conv.channels; ++c) {
    const int64_t in_rest = c - conv.first_channels;
    const float* x = in_rest < 0 ? conv.x + c * conv.voxels : conv.rest + in_rest * conv.voxels;
    copy_channel(x + begin, size, conv.channels * block, inputs + c * block);
  }
}

// Outputs from `output` on of a block of voxels.
void store_outputs(const Conv& conv, const float* products, int64_t output, int64_t begin,
                   int64_t size) {
  const int64_t outputs = std::min<int64_t>(group, conv.outputs - output);
  for (int64_t k = 0; k < outputs; ++k) {
    const Vec bias = splat(conv.bias[output + k]);
    float* y = conv.y + (output + k) * conv.voxels + begin;
    for_each_vector(size, [&](int64_t i, auto lanes) {
      store_lanes(y + i, load(products + k * block + i) + bias, lanes);
    });
  }
}

void run(const Conv& conv, int64_t begin, int64_t end, float* inputs) {
  float products[group * block];
  for (int64_t first = begin; first < end; first += span) {
    const int64_t last = std::min(first + span, end);
    copy_inputs(conv, first, last - first, inputs);
    for (int64_t voxel = first; voxel < last; voxel += block) {
      const float* of_block = inputs + (voxel - first) * conv.channels;
      for (int64_t k = 0; k < conv.outputs; k += group) {
        multiply(of_block, conv.weights + k * conv.channels, conv.channels, products);
        store_outputs(conv, products, k, voxel, std::min<int64_t>(block, last - voxel));
      }
    }
  }
}

}  // namespace

extern const sgmf::PointwiseKernel pointwise_kernel = {packed_size, pack, scratch, run};

}  // namespace SGMF_ISA
