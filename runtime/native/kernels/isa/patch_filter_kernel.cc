// The strided convolution of a patch embedding with fewer products, compiled once for each
// instruction set.
//
// Apart by their position modulo the stride s, inputs and taps are s convolutions of stride one
// along each axis, whose kernels have one tap or, up to 2 s taps in all, two. Of three neighbouring
// inputs d and two taps g, minimal filtering F(2, 2) (S. Winograd, Arithmetic Complexity of
// Computations, 1980) makes two outputs with three products instead of four,
//   m = ((d0 - d1) g0, d1 (g0 + g1), (d2 - d1) g1),   y = (m0 + m1, m1 + m2),
// and one tap alone adds d0 g to m0 and d1 g to m2. Along three axes a kernel of 7 at stride 4
// takes 11 x 11 x 11 products for 14 x 14 x 14. Lanes are neighbouring tiles of 2x2x2 outputs; the
// inputs of a block of tiles at one of the three points along the depth stay in a core's second
// cache.
#include "kernels/isa/patch_filter_kernel.h"

#include <algorithm>

#include "kernels/isa/patch_filter_inputs.h"

namespace SGMF_ISA {
namespace patch_filter {
namespace {

using sgmf::PatchBlocks;

// Sums of two vectors each, their inputs and a weight must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int group = 12;
#else
constexpr int group = 6;
#endif
constexpr int outputs = 8;  // of a tile

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// (inputs, block) and weights (inputs, group) give (group, block).
void multiply(const float* inputs, const float* weights, int64_t count, float* products) {
  for (int begin = 0; begin < block; begin += vectors * lane_count) {
    Vec sum[group][vectors];
    for (int k = 0; k < group; ++k) {
      for (int v = 0; v < vectors; ++v) sum[k][v] = splat(0.0f);
    }
    for (int64_t i = 0; i < count; ++i) {
      Vec input[vectors];
      for (int v = 0; v < vectors; ++v)
        input[v] = load(inputs + i * block + begin + v * lane_count);
#pragma GCC unroll 12
      for (int k = 0; k < group; ++k) {
        const Vec weight = splat(weights[i * group + k]);
        for (int v = 0; v < vectors; ++v) sum[k][v] = fma(input[v], weight, sum[k][v]);
      }
    }
    for (int k = 0; k < group; ++k) {
      for (int v = 0; v < vectors; ++v) {
        store(products + k * block + begin + v * lane_count, sum[k][v]);
      }
    }
  }
}

// Adds products (9, group, block) of a point along the depth to sums (2, 2, 2, channels, block).
void add_products(int point, const float* products, int64_t stride, float* sums) {
  for (int64_t at = 0; at < group * block; at += lane_count) {
    const auto product = [&](int p) { return load(products + p * group * block + at); };
    for (int h = 0; h < 2; ++h) {
      for (int w = 0; w < 2; ++w) {
        const int first = h * points + w;
        const Vec y = (product(first) + product(first + 1)) +
                      (product(first + points) + product(first + points + 1));
        for (int d = 0; d < 2; ++d) {
          if (point != 1 && d != point / 2) continue;
          float* sum = sums + (d * 4 + h * 2 + w) * stride + at;
          store(sum, load(sum) + y);
        }
      }
    }
  }
}

int64_t groups_of(const PatchEmbed& op) { return divide_up(op.channels, group); }

void store_outputs(const PatchEmbed& op, const Block& tiles, int64_t depth_tile, int64_t batch,
                   const float* sums) {
  const int64_t stride = groups_of(op) * group * block;
  for (int s = 0; s < tiles.count; ++s) {
    const Segment& segment = tiles.segments[s];
    for (int i = 0; i < outputs; ++i) {
      const int64_t d = 2 * depth_tile + i / 4, h = 2 * segment.row + i / 2 % 2;
      if (d >= op.output[0] || h >= op.output[1]) continue;
      const int64_t row = ((batch * op.output[0] + d) * op.output[1] + h) * op.output[2];
      for (int t = 0; t < segment.count; ++t) {
        const int64_t w = 2 * (segment.column + t) + i % 2;
        if (w >= op.output[2]) continue;
        const float* from = sums + i * stride + segment.first + t;
        float* y = op.y + (row + w) * op.channels;
        for (int64_t c = 0; c < op.channels; ++c) y[c] = from[c * block];
      }
    }
  }
}

// Planes of a channel for one phase at a point along the depth.
Planes find_planes(const PatchEmbed& op, const Axis& depth, const float* channel, int64_t tile,
                   int point, int64_t phase) {
  const auto plane = [&](int input) -> const float* {
    const int64_t d = depth.position(tile, input, phase);
    return d < 0 || d >= depth.extent ? nullptr : channel + d * op.input[1] * op.input[2];
  };
  if (point == 1) return {plane(1), nullptr};
  if (phase >= depth.doubled) return {plane(point == 0 ? 0 : 1), nullptr};
  return {plane(point == 0 ? 0 : 2), plane(1)};
}

// Packed weights: (chunks of channels, points along the depth, groups of outputs, points of the
// plane, inputs, group).
void run_block(const PatchEmbed& op, const Geometry& g, const PatchBlocks& blocks,
               const Block& tiles, Inputs& inputs, float* products, float* sums) {
  const int64_t voxels = op.input[0] * op.input[1] * op.input[2];
  const int64_t chunk = chunk_channels(g);
  const int64_t stride = groups_of(op) * group * block;
  for (int i = 0; i < outputs; ++i) {
    for (int64_t c = 0; c < groups_of(op) * group; ++c) {
      std::fill_n(sums + i * stride + c * block, block, c < op.channels ? op.bias[c] : 0.0f);
    }
  }
  const float* weights = op.weights;
  for (int64_t channel = 0; channel < op.input_channels; channel += chunk) {
    const int64_t count = std::min(chunk, op.input_channels - channel);
    for (int point = 0; point < points; ++point) {
      inputs.set(point, count);
      const int64_t phases = g.depth.terms(point);
      for (int64_t i = 0; i < count * phases; ++i) {
        const float* x = op.x + (blocks.batch * op.input_channels + channel + i / phases) * voxels;
        inputs.load(find_planes(op, g.depth, x, blocks.depth, point, i % phases), tiles, i);
      }
      for (int64_t k = 0; k < groups_of(op); ++k) {
        for (int p = 0; p < plane_points; ++p) {
          multiply(inputs.of(p), weights, inputs.count(p), products + p * group * block);
          weights += inputs.count(p) * group;
        }
        if (phases) add_products(point, products, stride, sums + k * group * block);
      }
    }
  }
}

int64_t scratch(const PatchEmbed& op) {
  const Geometry g(op);
  return Inputs::size(g, std::min(chunk_channels(g), op.input_channels)) +
         plane_points * group * block + outputs * groups_of(op) * group * block;
}

void run(const PatchEmbed& op, const PatchBlocks& blocks, float* scratch) {
  const Geometry g(op);
  float* products = scratch + Inputs::size(g, std::min(chunk_channels(g), op.input_channels));
  float* sums = products + plane_points * group * block;
  Inputs inputs(g, scratch);
  for (int64_t tile = blocks.begin; tile < blocks.end; tile += block) {
    const Block tiles = find_tiles(g, tile, blocks.end);
    run_block(op, g, blocks, tiles, inputs, products, sums);
    store_outputs(op, tiles, blocks.depth, blocks.batch, sums);
  }
}

// The weight of a term at a point along one axis, of taps `stride` apart.
double tap_term(const double* taps, int64_t stride, int point, bool is_doubled) {
  if (!is_doubled) return taps[0];
  if (point == 1) return taps[0] + taps[stride];
  return taps[point == 0 ? 0 : stride];
}

// One weight: the taps at the phases of a channel, (2, 2, 2) of them where all are doubled.
double transformed(const PatchEmbed& op, const Geometry& g, const float* taps, const int* point,
                   const int64_t* phase) {
  const Axis* axes[] = {&g.depth, &g.height, &g.width};
  double values[outputs] = {};
  for (int i = 0; i < outputs; ++i) {
    const int64_t at[] = {phase[0] + i / 4 * g.depth.stride, phase[1] + i / 2 % 2 * g.height.stride,
                          phase[2] + i % 2 * g.width.stride};
    const bool inside = at[0] < op.kernel[0] && at[1] < op.kernel[1] && at[2] < op.kernel[2];
    if (inside) values[i] = taps[(at[0] * op.kernel[1] + at[1]) * op.kernel[2] + at[2]];
  }
  for (int axis = 2, size = 1; axis >= 0; --axis, size *= 2) {
    for (int i = 0; i < outputs; i += 2 * size) {
      for (int j = i; j < i + size; ++j) {
        values[j] = tap_term(values + j, size, point[axis], phase[axis] < axes[axis]->doubled);
      }
    }
  }
  return values[0];
}

// The weights of channel c at a point for the outputs from k; returns where they end.
float* pack_group(const PatchEmbed& op, const Geometry& g, const float* weights, int64_t k,
                  int64_t c, const int* point, float* packed) {
  const int64_t taps = op.kernel[0] * op.kernel[1] * op.kernel[2];
  int64_t phase[3];
  for (phase[0] = 0; phase[0] < g.depth.terms(point[0]); ++phase[0]) {
    for (phase[1] = 0; phase[1] < g.height.terms(point[1]); ++phase[1]) {
      for (phase[2] = 0; phase[2] < g.width.terms(point[2]); ++phase[2]) {
        for (int64_t i = k; i < k + group; ++i) {
          const float* of_output = weights + (i * op.input_channels + c) * taps;
          const bool exists = i < op.channels;
          *packed++ =
              exists ? static_cast<float>(transformed(op, g, of_output, point, phase)) : 0.0f;
        }
      }
    }
  }
  return packed;
}

int64_t packed_size(const PatchEmbed& op) {
  const Geometry g(op);
  return groups_of(op) * group * op.input_channels * g.depth.all_terms() * g.plane_terms();
}

void pack(const PatchEmbed& op, const float* weights, float* packed) {
  const Geometry g(op);
  const int64_t chunk = chunk_channels(g);
  for (int64_t first = 0; first < op.input_channels; first += chunk) {
    const int64_t last = std::min(first + chunk, op.input_channels);
    for (int depth_point = 0; depth_point < points; ++depth_point) {
      for (int64_t k = 0; k < op.channels; k += group) {
        for (int p = 0; p < plane_points; ++p) {
          const int point[] = {depth_point, p / points, p % points};
          for (int64_t c = first; c < last; ++c) {
            packed = pack_group(op, g, weights, k, c, point, packed);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace patch_filter

extern const sgmf::PatchFilterKernel patch_filter_kernel = {
    patch_filter::block, patch_filter::packed_size, patch_filter::pack, patch_filter::scratch,
    patch_filter::run};

}  // namespace SGMF_ISA
