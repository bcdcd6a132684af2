// Convolutions that take every voxel by itself, compiled once for each instruction set.
//
// Voxels are copied some blocks at a time: channels lie far apart, often by a power of two, so that
// a block of all channels would fight for the same few places of the cache. A row of weights gives
// one tap of one output; the taps along the width follow one another, and their products are
// interleaved as they are stored.
#include "kernels/isa/conv3d/pointwise_kernel.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa/conv3d/block_products.h"
#include "kernels/isa/conv3d/interleave.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::PointwiseConv;

constexpr int64_t chunk_channels = 64;  // that are summed by themselves, for fewer roundings
constexpr int64_t blocks_at_once = 8;
constexpr int64_t span = blocks_at_once * block;

int64_t groups_of(const Conv& conv) { return divide_up(conv.rows(), group); }

int64_t packed_size(const Conv& conv) { return groups_of(conv) * conv.channels * group; }

// (groups, channels, group), zeros beyond the rows.
void pack(const Conv& conv, const float* weight, bool is_transposed, int64_t begin, int64_t end,
          float* packed) {
  const int64_t row_step = is_transposed ? 1 : conv.channels;
  const int64_t channel_step = is_transposed ? conv.rows() : 1;
  for (int64_t c = 0; c < conv.channels; ++c) {
    for (int64_t row = begin * group; row < end * group; row += group) {
      float* to = packed + row * conv.channels + c * group;
      const float* from = weight + row * row_step + c * channel_step;
      const int64_t rows = std::min<int64_t>(group, conv.rows() - row);
      for (int64_t k = 0; k < group; ++k) to[k] = k < rows ? from[k * row_step] : 0.0f;
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
  const int64_t voxels = conv.voxels();
  for (int64_t c = 0; c < conv.channels; ++c) {
    const int64_t in_rest = c - conv.first_channels;
    const float* x = in_rest < 0 ? conv.x + c * voxels : conv.rest + in_rest * voxels;
    copy_channel(x + begin, size, conv.channels * block, inputs + c * block);
  }
}

// Adds the products of a group of rows with a block of voxels to `start`, rows `span` apart.
void multiply_block(const Conv& conv, const float* inputs, const float* weights, const float* start,
                    float* products) {
  constexpr float none[group] = {};
  float chunk[group * block];
  multiply(inputs, weights, std::min(chunk_channels, conv.channels), start, products, span);
  for (int64_t c = chunk_channels; c < conv.channels; c += chunk_channels) {
    multiply(inputs + c * block, weights + c * group, std::min(chunk_channels, conv.channels - c),
             none, chunk, block);
    for (int64_t k = 0; k < group; ++k) {
      for (int64_t i = 0; i < block; i += lane_count) {
        float* sum = products + k * span + i;
        store(sum, load(sum) + load(chunk + k * block + i));
      }
    }
  }
}

// Outputs of a group of rows from `row` on of `size` voxels: (group, span).
void multiply_group(const Conv& conv, const float* inputs, int64_t row, int64_t size,
                    float* products) {
  float bias[group];
  for (int64_t k = 0; k < group; ++k) {
    const int64_t last = conv.rows() - 1;
    bias[k] = conv.bias[std::min(row + k, last) / conv.taps_of_output()];
  }
  for (int64_t voxel = 0; voxel < size; voxel += block) {
    multiply_block(conv, inputs + voxel * conv.channels, conv.weights + row * conv.channels, bias,
                   products + voxel);
  }
}

// Where the outputs of a voxel of x begin, in one row of weights.
int64_t place_of(const Conv& conv, int64_t row, int64_t voxel) {
  const auto& [depth, height, width] = conv.extents;
  const auto& [along_depth, along_height, along_width] = conv.taps;
  const int64_t output = row / conv.taps_of_output();
  const int64_t i = row / (along_height * along_width) % along_depth;
  const int64_t j = row / along_width % along_height;
  const int64_t d = voxel / (width * height) * along_depth + i;
  const int64_t h = voxel / width % height * along_height + j;
  return ((output * depth * along_depth + d) * height * along_height + h) * width * along_width +
         voxel % width * along_width;
}

// Products (group, span) of rows from `first` on of voxels begin to end.
template <int taps>
void store_group(const Conv& conv, const float* products, int64_t first, int64_t begin,
                 int64_t end) {
  const int64_t width = conv.extents[2];
  const int64_t rows = std::min<int64_t>(group, conv.rows() - first);
  for (int64_t k = 0; k < rows; k += taps) {
    for (int64_t voxel = begin; voxel < end;) {
      const int64_t size = std::min(width - voxel % width, end - voxel);
      store_row<taps>(products + k * span + voxel - begin, span, taps * size,
                      conv.y + place_of(conv, first + k, voxel));
      voxel += size;
    }
  }
}

void run(const Conv& conv, int64_t begin, int64_t end, float* inputs) {
  float products[group * span + lane_count];  // rows are read in whole vectors
  for (int64_t first = begin; first < end; first += span) {
    const int64_t last = std::min(first + span, end);
    copy_inputs(conv, first, last - first, inputs);
    for (int64_t row = 0; row < conv.rows(); row += group) {
      multiply_group(conv, inputs, row, last - first, products);
      if (conv.taps[2] == 2) {
        store_group<2>(conv, products, row, first, last);
      } else {
        store_group<1>(conv, products, row, first, last);
      }
    }
  }
}

}  // namespace

extern const sgmf::PointwiseKernel pointwise_kernel = {block, groups_of, packed_size,
                                                       pack,  scratch,   run};

}  // namespace SGMF_ISA
