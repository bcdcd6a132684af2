// Sizes of the dense convolution of volumes, and the order of its packed weights.
#pragma once

#include <algorithm>

#include "kernels/isa/conv3d_kernel.h"
#include "kernels/isa/simd.h"

namespace SGMF_ISA {

constexpr int vectors = 3;
constexpr int block = vectors * lane_count;  // tiles
// Sums of a block for some outputs, a vector of tiles each and a weight must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int group = 8;
#else
constexpr int group = 4;
#endif

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t groups_of(const sgmf::Conv3d& conv) { return divide_up(conv.outputs, group); }

// F(2, 3) along a depth of three taps, F(tile, 3) along height and width.
template <int depth_taps, int tile_size>
struct Form {
  static constexpr int taps = depth_taps;
  static constexpr int tile = tile_size;
  static constexpr int points = tile + 2;
  static constexpr int plane_points = points * points;
  static constexpr int depth_points = taps == 3 ? 4 : 1;
  static constexpr int planes = taps == 3 ? 2 : 1;  // of outputs
  static constexpr int plane_outputs = tile * tile;
  // Channels whose inputs stay in the second cache, and groups of outputs whose products stay there
  // beside them.
  static constexpr int64_t chunk_channels = tile == 4 ? 64 : 128;
  static constexpr int64_t chunk_groups = (tile == 4 ? 32 : 64) / group;

  // Packed weights: (chunks of channels, points along the depth, points of a plane, groups of
  // outputs, channels of the chunk, group).
  static int64_t packed_offset(const sgmf::Conv3d& conv, int64_t channel, int64_t point,
                               int64_t output_group) {
    const int64_t count = std::min(chunk_channels, conv.channels - channel);
    const int64_t before = channel * depth_points * plane_points;
    return group * (before * groups_of(conv) + count * (point * groups_of(conv) + output_group));
  }

  static int64_t packed_size(const sgmf::Conv3d& conv) {
    return depth_points * plane_points * groups_of(conv) * group * conv.channels;
  }
};

// Calls `call` with the form of a convolution.
template <typename Call>
auto with_form(const sgmf::Conv3d& conv, Call call) {
  if (conv.tile == 4) return conv.depth_taps == 3 ? call(Form<3, 4>()) : call(Form<1, 4>());
  return conv.depth_taps == 3 ? call(Form<3, 2>()) : call(Form<1, 2>());
}

}  // namespace SGMF_ISA
