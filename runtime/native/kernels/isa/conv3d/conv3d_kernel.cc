// The dense convolution of volumes, compiled once for each instruction set.
//
// Minimal filtering along each axis of three taps: over tiles of 2x2x2 outputs 64 products stand
// for 216, over tiles of 2x4x4 outputs 144 for 864, and at a stride of two 125 for 216. Inputs,
// weights and products of one point are matrices. Lanes are neighbouring tiles. The points along
// the depth follow one another, so that the inputs of a block of tiles stay in a core's second
// cache.
#include "kernels/isa/conv3d/conv3d_kernel.h"

#include <algorithm>

#include "kernels/isa/conv3d/conv3d_form.h"
#include "kernels/isa/conv3d/conv3d_inputs.h"
#include "kernels/isa/conv3d/conv3d_weights.h"
#include "kernels/isa/conv3d/interleave.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::Conv3d;

constexpr float no_start[group] = {};

inline void add(float* sum, Vec a) { store(sum, load(sum) + a); }
inline void subtract(float* sum, Vec a) { store(sum, load(sum) - a); }

// Adds a value of a point along the depth at (h, w) `place`: sums are (planes, outputs of a plane,
// block).
template <typename F, int point>
void add_point(Vec value, int place, float* sums) {
  for (int plane = 0; plane < F::Depth::planes; ++plane) {
    float* sum = sums + (plane * F::plane_outputs + place) * block;
    if (F::Depth::outputs[point][plane] > 0) add(sum, value);
    if (F::Depth::outputs[point][plane] < 0) subtract(sum, value);
  }
}

// Products (points of a plane, group, block) of a point along the depth, added to sums (group,
// planes, outputs of a plane, block).
template <typename F, int point>
void transform_products(const float* products, float* sums) {
  constexpr int tile = F::tile;
  for (int k = 0; k < group; ++k) {
    for (int t = 0; t < block; t += lane_count) {
      Vec rows[F::Plane::points][tile];
      for (int i = 0; i < F::Plane::points; ++i) {
        Vec given[F::Plane::points];
        for (int j = 0; j < F::Plane::points; ++j) {
          given[j] = load(products + ((i * F::Plane::points + j) * group + k) * block + t);
        }
        F::Plane::products(given, 1, rows[i]);
      }
      float* at = sums + k * F::Depth::planes * F::plane_outputs * block + t;
      for (int j = 0; j < tile; ++j) {
        Vec column[tile];
        F::Plane::products(&rows[0][j], tile, column);
        for (int i = 0; i < tile; ++i) add_point<F, point>(column[i], i * tile + j, at);
      }
    }
  }
}

// The inputs of a point stay in the first cache while the weights of a chunk of outputs pass.
template <typename F, int point>
void run_point(const Conv& conv, const Block& tiles, int64_t channel, float* inputs,
               float* products, float* sums) {
  constexpr int64_t sums_of_group = group * F::Depth::planes * F::plane_outputs * block;
  const int64_t count = std::min(F::chunk_channels, conv.channels - channel);
  load_inputs<F>(conv, tiles, channel, count, point, inputs);
  for (int64_t begin = 0; begin < groups_of(conv); begin += F::chunk_groups) {
    const int64_t end = std::min(begin + F::chunk_groups, groups_of(conv));
    for (int p = 0; p < F::plane_points; ++p) {
      const float* weights = conv.weights + F::packed_offset(conv, channel, point, p, begin);
      for (int64_t k = 0; k < end - begin; ++k) {
        multiply(inputs + p * point_step(count), weights + k * count * group, count, no_start,
                 products + (k * F::plane_points + p) * group * block, block);
      }
    }
    for (int64_t k = begin; k < end; ++k) {
      transform_products<F, point>(products + (k - begin) * F::plane_points * group * block,
                                   sums + k * sums_of_group);
    }
  }
}

template <typename F, int point = 0>
void run_points(const Conv& conv, const Block& tiles, int64_t channel, float* inputs,
                float* products, float* sums) {
  run_point<F, point>(conv, tiles, channel, inputs, products, sums);
  if constexpr (point + 1 < F::Depth::points) {
    run_points<F, point + 1>(conv, tiles, channel, inputs, products, sums);
  }
}

template <typename F>
void store_outputs(const Conv& conv, const Block& tiles, const float* sums) {
  constexpr int rows = F::Depth::planes * F::tile;
  for (int64_t k = 0; k < conv.outputs; ++k) {
    for (int s = 0; s < tiles.count; ++s) {
      const Segment& row = tiles.segments[s];
      const int64_t size = std::min<int64_t>(F::tile * row.count, conv.out_width() - row.w);
      for (int i = 0; i < rows; ++i) {
        const int64_t d = row.d + i / F::tile;
        const int64_t h = row.h + i % F::tile;
        if (d >= conv.out_depth() || h >= conv.out_height()) continue;
        const int64_t row_of_y = (k * conv.out_depth() + d) * conv.out_height() + h;
        store_row<F::tile>(sums + (k * rows + i) * F::tile * block + row.first, block, size,
                           conv.y + row_of_y * conv.out_width() + row.w);
      }
    }
  }
}

template <typename F>
int64_t inputs_size(const Conv& conv) {
  return F::plane_points * point_step(std::min(F::chunk_channels, conv.channels));
}

template <typename F>
int64_t products_size(const Conv& conv) {
  return F::plane_points * std::min(F::chunk_groups, groups_of(conv)) * group * block;
}

template <typename F>
void run_blocks(const Conv& conv, int64_t begin, int64_t end, float* inputs) {
  constexpr int64_t sums_of_output = F::Depth::planes * F::plane_outputs * block;
  float* products = inputs + inputs_size<F>(conv);
  float* sums = products + products_size<F>(conv);
  for (int64_t tile = begin; tile < end; tile += block) {
    const Block tiles = find_tiles<F>(conv, tile, end);
    for (int64_t k = 0; k < groups_of(conv) * group; ++k) {
      std::fill_n(sums + k * sums_of_output, sums_of_output,
                  k < conv.outputs ? conv.bias[k] : 0.0f);
    }
    for (int64_t channel = 0; channel < conv.channels; channel += F::chunk_channels) {
      run_points<F>(conv, tiles, channel, inputs, products, sums);
    }
    store_outputs<F>(conv, tiles, sums);
  }
}

void run(const Conv& conv, int64_t begin, int64_t end, float* scratch) {
  constexpr std::size_t alignment = 64;
  const auto address = reinterpret_cast<std::uintptr_t>(scratch);
  float* inputs = scratch + (alignment - address % alignment) % alignment / sizeof(float);
  with_form(conv, [&](auto form) { run_blocks<decltype(form)>(conv, begin, end, inputs); });
}

int64_t scratch(const Conv& conv) {
  constexpr int64_t slack = 16 + lane_count;  // alignment, and what the last vector reads beyond
  return with_form(conv, [&](auto form) {
    using F = decltype(form);
    return inputs_size<F>(conv) + products_size<F>(conv) +
           groups_of(conv) * group * F::Depth::planes * F::plane_outputs * block + slack;
  });
}

int64_t tiles(const Conv& conv) {
  return with_form(conv, [&](auto form) {
    using F = decltype(form);
    return divide_up(conv.out_depth(), F::Depth::planes) * divide_up(conv.out_height(), F::tile) *
           divide_up(conv.out_width(), F::tile);
  });
}

void pack(const Conv& conv, const float* weights, int64_t output_group, float* packed) {
  with_form(conv,
            [&](auto form) { pack_group<decltype(form)>(conv, weights, output_group, packed); });
}

int64_t packed_size(const Conv& conv) {
  return with_form(conv, [&](auto form) { return decltype(form)::packed_size(conv); });
}

}  // namespace

extern const sgmf::Conv3dKernel conv3d_kernel = {block, tiles,   groups_of, packed_size,
                                                 pack,  scratch, run};

}  // namespace SGMF_ISA
