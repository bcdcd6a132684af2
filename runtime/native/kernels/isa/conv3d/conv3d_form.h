// Sizes of the dense convolution of volumes, and the order of its packed weights.
#pragma once

#include <algorithm>

#include "kernels/isa/conv3d/block_products.h"
#include "kernels/isa/conv3d/conv3d_kernel.h"
#include "kernels/isa/conv3d/minimal_filter.h"

namespace SGMF_ISA {

inline int64_t groups_of(const sgmf::Conv3d& conv) { return divide_up(conv.outputs, group); }

// A filter along the depth, whose points follow one another: point i is plane a[i] of a tile's
// inputs plus sign[i] times plane b[i], and goes into the first and second output with the factors
// of `outputs`.
template <int taps, int stride>
struct DepthFilter;

template <>
struct DepthFilter<1, 1> {
  static constexpr int tap_count = 1;
  static constexpr int stride = 1;
  static constexpr int points = 1;
  static constexpr int planes = 1;
  static constexpr int a[] = {0};
  static constexpr int b[] = {0};
  static constexpr int sign[] = {0};
  static constexpr int outputs[][2] = {{1, 0}};

  template <typename T>
  static void taps(const T* g, int, T* out) {
    out[0] = g[0];
  }
};

template <>
struct DepthFilter<3, 1> {
  static constexpr int tap_count = 3;
  static constexpr int stride = 1;
  static constexpr int points = 4;
  static constexpr int planes = 2;
  static constexpr int a[] = {0, 1, 2, 1};
  static constexpr int b[] = {2, 2, 1, 3};
  static constexpr int sign[] = {-1, 1, -1, -1};
  static constexpr int outputs[][2] = {{1, 0}, {1, 1}, {1, -1}, {0, -1}};

  template <typename T>
  static void taps(const T* g, int step, T* out) {
    MinimalFilter<2, 1>::taps(g, step, out, 1);
  }
};

template <>
struct DepthFilter<3, 2> {
  static constexpr int tap_count = 3;
  static constexpr int stride = 2;
  static constexpr int points = 5;
  static constexpr int planes = 2;
  static constexpr int a[] = {0, 2, 2, 1, 3};
  static constexpr int b[] = {2, 0, 4, 0, 0};
  static constexpr int sign[] = {-1, 0, -1, 0, 0};
  static constexpr int outputs[][2] = {{1, 0}, {1, 1}, {0, -1}, {1, 0}, {0, 1}};

  template <typename T>
  static void taps(const T* g, int step, T* out) {
    MinimalFilter<2, 2>::taps(g, step, out, 1);
  }
};

// One filter along the depth and one along height and width.
template <typename DepthFilter, typename PlaneFilter>
struct Form {
  using Depth = DepthFilter;
  using Plane = PlaneFilter;
  static constexpr int tile = Plane::outputs;
  static constexpr int plane_points = Plane::points * Plane::points;
  static constexpr int plane_outputs = tile * tile;
  // Channels whose inputs stay in the second cache, and groups of outputs whose products stay there
  // beside them.
  static constexpr int64_t chunk_channels = Plane::points > 4 ? 64 : 128;
  static constexpr int64_t chunk_groups = 64 / group;

  // Packed weights, in the order of the products: (chunks of channels, points along the depth,
  // chunks of groups of outputs, points of a plane, groups of the chunk, channels of the chunk,
  // group).
  static int64_t packed_offset(const sgmf::Conv3d& conv, int64_t channel, int64_t depth_point,
                               int64_t plane_point, int64_t output_group) {
    const int64_t channels = std::min(chunk_channels, conv.channels - channel);
    const int64_t before = channel * Depth::points * plane_points * groups_of(conv);
    const int64_t chunk = output_group / chunk_groups * chunk_groups;
    const int64_t groups = std::min(chunk_groups, groups_of(conv) - chunk);
    const int64_t matrices = plane_points * (depth_point * groups_of(conv) + chunk) +
                             plane_point * groups + output_group - chunk;
    return group * (before + channels * matrices);
  }

  static int64_t packed_size(const sgmf::Conv3d& conv) {
    return Depth::points * plane_points * groups_of(conv) * group * conv.channels;
  }
};

// Calls `call` with the form of a convolution.
template <typename Call>
auto with_form(const sgmf::Conv3d& conv, Call call) {
  using Large = MinimalFilter<4, 1>;
  using Small = MinimalFilter<2, 1>;
  using Strided = MinimalFilter<2, 2>;
  if (conv.depth_taps == 1) {
    if (conv.plane_stride == 2) return call(Form<DepthFilter<1, 1>, Strided>());
    if (conv.tile == 4) return call(Form<DepthFilter<1, 1>, Large>());
    return call(Form<DepthFilter<1, 1>, Small>());
  }
  if (conv.depth_stride == 2) return call(Form<DepthFilter<3, 2>, Strided>());
  if (conv.plane_stride == 2) return call(Form<DepthFilter<3, 1>, Strided>());
  if (conv.tile == 4) return call(Form<DepthFilter<3, 1>, Large>());
  return call(Form<DepthFilter<3, 1>, Small>());
}

}  // namespace SGMF_ISA
