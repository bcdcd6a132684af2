// The dense convolution of volumes, compiled once for each instruction set.
//
// Winograd's minimal filtering F(2, 3) along each axis of three taps (Lavin and Gray, "Fast
// algorithms for convolutional neural networks", 2016): of four neighbouring inputs d and three
// taps g it makes two outputs with four products instead of six,
//   m = ((d0 - d2) g0, (d1 + d2) (g0 + g1 + g2)/2, (d2 - d1) (g0 - g1 + g2)/2, (d1 - d3) g2)
//   y = (m0 + m1 + m2, m1 - m2 - m3).
// Along three axes 64 products stand for 216. Inputs, weights and products of one of the 4x4x4
// points are matrices. Lanes are neighbouring tiles. The four points along the depth follow one
// another, so that the inputs of a block of tiles stay in a core's second cache.
#include "kernels/isa/conv3d_kernel.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::Conv3d;

constexpr int vectors = 3;
constexpr int block = vectors * lane_count;  // tiles
// Sums of a block for some outputs, a vector of tiles each and a weight must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int group = 8;
#else
constexpr int group = 4;
#endif
constexpr int plane_points = 16;              // of a tile, for one point along the depth
constexpr int64_t chunk_channels = 128;       // whose inputs stay in the second cache
constexpr int64_t chunk_groups = 64 / group;  // of outputs, whose products stay there beside them
constexpr int row_room = block + 2 * lane_count;

template <int taps>
struct Depth;
template <>
struct Depth<3> {
  static constexpr int points = 4;
  static constexpr int planes = 2;  // of outputs
};
template <>
struct Depth<1> {
  static constexpr int points = 1;
  static constexpr int planes = 1;
};

// Neighbouring tiles of a block in one row.
struct Segment {
  int64_t d;  // of the first output
  int64_t h;
  int64_t w;
  int first;  // tile of the block
  int count;
};

struct Block {
  Segment segments[block];
  int count = 0;
};

template <int taps>
Block find_tiles(const Conv& conv, int64_t begin, int64_t end) {
  const int64_t across = (conv.width + 1) / 2;
  const int64_t down = (conv.height + 1) / 2;
  const int tiles = static_cast<int>(std::min<int64_t>(block, end - begin));
  Block found;
  for (int done = 0; done < tiles;) {
    const int64_t row = (begin + done) / across;
    const int64_t column = (begin + done) % across;
    const int count = static_cast<int>(std::min<int64_t>(across - column, tiles - done));
    found.segments[found.count++] = {row / down * Depth<taps>::planes, row % down * 2, column * 2,
                                     done, count};
    done += count;
  }
  return found;
}

// Inputs of some tiles in one row, every other voxel: tile i sees even[i], odd[i], even[i + 1] and
// odd[i + 1] of each of its four rows.
struct Rows {
  float even[4][row_room] = {};
  float odd[4][row_room] = {};
};

// `size` voxels of a row of the volume from w, zeros outside. Rows are read beyond their ends where
// that is the volume's memory, and what was read there is overwritten later.
const float* row_or_copy(const Conv& conv, const float* channel, int64_t d, int64_t h, int64_t w,
                         int64_t size, float* copy) {
  const bool is_inside = d >= 0 && d < conv.depth && h >= 0 && h < conv.height;
  const int64_t first = (d * conv.height + h) * conv.width + w;
  const int64_t voxels = conv.depth * conv.height * conv.width;
  if (is_inside && first >= 0 && first + size <= voxels) return channel + first;
  std::memset(copy, 0, size * sizeof(float));
  if (is_inside) {
    const int64_t begin = std::max<int64_t>(w, 0);
    const int64_t end = std::min(w + size, conv.width);
    std::copy(channel + first - w + begin, channel + first - w + end, copy + begin - w);
  }
  return copy;
}

// One point along the depth of the rows that a segment sees.
template <int taps>
void gather(const Conv& conv, const float* channel, const Segment& tiles, int point, Rows& rows) {
  constexpr int first[] = {0, 1, 2, 1};
  constexpr int second[] = {2, 2, 1, 3};
  const int pairs = tiles.count + 1;
  const int64_t size = (pairs + lane_count - 1) / lane_count * 2 * lane_count;
  const int64_t w = tiles.w - 1;
  float copies[2][2 * row_room];
  for (int i = 0; i < 4; ++i) {
    const int64_t h = tiles.h - 1 + i;
    const auto row = [&](int64_t d, float* copy) {
      return row_or_copy(conv, channel, d, h, w, size, copy);
    };
    const auto split = [&](auto voxels) {
      for (int pair = 0; pair < pairs; pair += lane_count) {
        const Vec left = voxels(2 * pair);
        const Vec right = voxels(2 * pair + lane_count);
        store(rows.even[i] + pair, even_of(left, right));
        store(rows.odd[i] + pair, odd_of(left, right));
      }
    };
    const float* a = row(taps == 3 ? tiles.d - 1 + first[point] : tiles.d, copies[0]);
    if (taps == 1) {
      split([&](int64_t k) { return load(a + k); });
    } else {
      const float* b = row(tiles.d - 1 + second[point], copies[1]);
      if (point == 1) {
        split([&](int64_t k) { return load(a + k) + load(b + k); });
      } else {
        split([&](int64_t k) { return load(a + k) - load(b + k); });
      }
    }
    if (w < 0) rows.even[i][0] = 0.0f;
    if (w + 2 * pairs > conv.width) rows.odd[i][pairs - 1] = 0.0f;
    if (w + 2 * pairs - 1 > conv.width) rows.even[i][pairs - 1] = 0.0f;
  }
}

// The two inner axes of one channel; its points lie `step` floats apart.
void transform_inputs(const Rows& near, const Rows& far, int shift, float* points, int64_t step) {
  for (int tile = 0; tile < block; tile += lane_count) {
    Vec rows[4][4];
    for (int i = 0; i < 4; ++i) {
      const Vec d0 = load(near.even[i] + tile);
      const Vec d1 = load(near.odd[i] + tile);
      const Vec d2 = load(far.even[i] + tile + shift);
      const Vec d3 = load(far.odd[i] + tile + shift);
      rows[i][0] = d0 - d2;
      rows[i][1] = d1 + d2;
      rows[i][2] = d2 - d1;
      rows[i][3] = d1 - d3;
    }
    for (int j = 0; j < 4; ++j) {
      store(points + j * step + tile, rows[0][j] - rows[2][j]);
      store(points + (4 + j) * step + tile, rows[1][j] + rows[2][j]);
      store(points + (8 + j) * step + tile, rows[2][j] - rows[1][j]);
      store(points + (12 + j) * step + tile, rows[1][j] - rows[3][j]);
    }
  }
}

// Where tiles lie in several rows, their inputs are brought side by side.
void append(const Segment& tiles, const Rows& from, Rows& near, Rows& far) {
  for (int i = 0; i < 4; ++i) {
    for (int tile = 0; tile < tiles.count; tile += lane_count) {
      const int to = tiles.first + tile;
      store(near.even[i] + to, load(from.even[i] + tile));
      store(near.odd[i] + to, load(from.odd[i] + tile));
      store(far.even[i] + to, load(from.even[i] + tile + 1));
      store(far.odd[i] + to, load(from.odd[i] + tile + 1));
    }
  }
}

// The inputs of `count` channels at one point along the depth: (16, count, block).
template <int taps>
void load_inputs(const Conv& conv, const Block& tiles, int64_t channel, int64_t count, int point,
                 float* inputs) {
  const int64_t voxels = conv.depth * conv.height * conv.width;
  Rows rows;
  Rows near;
  Rows far;
  for (int64_t c = 0; c < count; ++c) {
    const int64_t in_rest = channel + c - conv.first_channels;
    const float* x = in_rest < 0 ? conv.x + (channel + c) * voxels : conv.rest + in_rest * voxels;
    for (int s = 0; s < tiles.count; ++s) {
      gather<taps>(conv, x, tiles.segments[s], point, rows);
      if (tiles.count > 1) append(tiles.segments[s], rows, near, far);
    }
    const bool is_row = tiles.count == 1;
    transform_inputs(is_row ? rows : near, is_row ? rows : far, is_row, inputs + c * block,
                     count * block);
  }
}

// Products of one point: (channels, block) and weights (channels, group) give (group, block).
void multiply(const float* inputs, const float* weights, int64_t channels, float* products) {
  Vec sum[group][vectors];
  for (int k = 0; k < group; ++k) {
    for (int v = 0; v < vectors; ++v) sum[k][v] = splat(0.0f);
  }
  for (int64_t c = 0; c < channels; ++c) {
    Vec input[vectors];
    for (int v = 0; v < vectors; ++v) input[v] = load(inputs + c * block + v * lane_count);
    for (int k = 0; k < group; ++k) {
      const Vec weight = splat(weights[c * group + k]);
      for (int v = 0; v < vectors; ++v) sum[k][v] = fma(input[v], weight, sum[k][v]);
    }
  }
  for (int k = 0; k < group; ++k) {
    for (int v = 0; v < vectors; ++v) {
      store(products + k * block + v * lane_count, sum[k][v]);
    }
  }
}

inline void add(float* sum, Vec a) { store(sum, load(sum) + a); }
inline void subtract(float* sum, Vec a) { store(sum, load(sum) - a); }

// Adds the two outputs at (h, w) `place` of a point along the depth: sums are (planes, 4, block).
template <int taps, int point>
void add_point(Vec value, int place, float* sums) {
  float* first = sums + place * block;
  float* second = sums + (4 + place) * block;
  if (taps == 1 || point == 0 || point == 1 || point == 2) add(first, value);
  if (taps == 1) return;
  if (point == 1) add(second, value);
  if (point == 2 || point == 3) subtract(second, value);
}

// Products (16, group, block) of a point along the depth, added to sums (group, planes, 4, block).
template <int taps, int point>
void transform_products(const float* products, float* sums) {
  for (int k = 0; k < group; ++k) {
    for (int tile = 0; tile < block; tile += lane_count) {
      Vec rows[4][2];
      for (int i = 0; i < 4; ++i) {
        const auto product = [&](int j) {
          return load(products + ((i * 4 + j) * group + k) * block + tile);
        };
        const Vec m1 = product(1);
        const Vec m2 = product(2);
        rows[i][0] = product(0) + (m1 + m2);
        rows[i][1] = (m1 - m2) - product(3);
      }
      float* at = sums + k * Depth<taps>::planes * 4 * block + tile;
      for (int j = 0; j < 2; ++j) {
        const Vec near = rows[1][j] + rows[2][j];
        const Vec apart = rows[1][j] - rows[2][j];
        add_point<taps, point>(rows[0][j] + near, j, at);
        add_point<taps, point>(apart - rows[3][j], 2 + j, at);
      }
    }
  }
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Packed weights: (chunks of channels, points along the depth, 16, groups of outputs, channels of
// the chunk, group).
int64_t groups_of(const Conv& conv) { return divide_up(conv.outputs, group); }

template <int taps>
int64_t packed_offset(const Conv& conv, int64_t channel, int64_t point, int64_t output_group) {
  const int64_t count = std::min(chunk_channels, conv.channels - channel);
  const int64_t before = channel * Depth<taps>::points * plane_points;
  return group * (before * groups_of(conv) + count * (point * groups_of(conv) + output_group));
}

// The inputs of a point stay in the first cache while the weights of a chunk of outputs pass.
template <int taps, int point>
void run_point(const Conv& conv, const Block& tiles, int64_t channel, float* inputs,
               float* products, float* sums) {
  constexpr int64_t sums_of_group = group * Depth<taps>::planes * 4 * block;
  const int64_t count = std::min(chunk_channels, conv.channels - channel);
  load_inputs<taps>(conv, tiles, channel, count, point, inputs);
  for (int64_t begin = 0; begin < groups_of(conv); begin += chunk_groups) {
    const int64_t end = std::min(begin + chunk_groups, groups_of(conv));
    for (int p = 0; p < plane_points; ++p) {
      const float* weights =
          conv.weights + packed_offset<taps>(conv, channel, point * plane_points + p, begin);
      for (int64_t k = 0; k < end - begin; ++k) {
        multiply(inputs + p * count * block, weights + k * count * group, count,
                 products + (k * plane_points + p) * group * block);
      }
    }
    for (int64_t k = begin; k < end; ++k) {
      transform_products<taps, point>(products + (k - begin) * plane_points * group * block,
                                      sums + k * sums_of_group);
    }
  }
}

void store_row(const float* even, const float* odd, int64_t size, float* y) {
  for (int64_t w = 0; w < size; w += 2 * lane_count) {
    const Vec a = load(even + w / 2);
    const Vec b = load(odd + w / 2);
    const int left = static_cast<int>(std::min<int64_t>(size - w, 2 * lane_count));
    store_lanes(y + w, zip_low(a, b), std::min(left, lane_count));
    if (left > lane_count) store_lanes(y + w + lane_count, zip_high(a, b), left - lane_count);
  }
}

template <int taps>
void store_outputs(const Conv& conv, const Block& tiles, const float* sums) {
  constexpr int planes = Depth<taps>::planes;
  for (int64_t k = 0; k < conv.outputs; ++k) {
    for (int s = 0; s < tiles.count; ++s) {
      const Segment& row = tiles.segments[s];
      const int64_t size = std::min<int64_t>(2 * row.count, conv.width - row.w);
      for (int i = 0; i < 2 * planes; ++i) {
        const int64_t d = row.d + i / 2;
        const int64_t h = row.h + i % 2;
        if (d >= conv.depth || h >= conv.height) continue;
        const float* even = sums + ((k * planes * 2 + i) * 2) * block + row.first;
        store_row(even, even + block, size,
                  conv.y + ((k * conv.depth + d) * conv.height + h) * conv.width + row.w);
      }
    }
  }
}

int64_t inputs_size(const Conv& conv) {
  return plane_points * std::min(chunk_channels, conv.channels) * block;
}

int64_t products_size(const Conv& conv) {
  return plane_points * std::min(chunk_groups, groups_of(conv)) * group * block;
}

template <int taps>
void run_blocks(const Conv& conv, int64_t begin, int64_t end, float* inputs) {
  constexpr int64_t sums_of_output = Depth<taps>::planes * 4 * block;
  float* products = inputs + inputs_size(conv);
  float* sums = products + products_size(conv);
  for (int64_t tile = begin; tile < end; tile += block) {
    const Block tiles = find_tiles<taps>(conv, tile, end);
    for (int64_t k = 0; k < groups_of(conv) * group; ++k) {
      std::fill_n(sums + k * sums_of_output, sums_of_output,
                  k < conv.outputs ? conv.bias[k] : 0.0f);
    }
    for (int64_t channel = 0; channel < conv.channels; channel += chunk_channels) {
      run_point<taps, 0>(conv, tiles, channel, inputs, products, sums);
      if (taps == 1) continue;
      run_point<taps, 1 % Depth<taps>::points>(conv, tiles, channel, inputs, products, sums);
      run_point<taps, 2 % Depth<taps>::points>(conv, tiles, channel, inputs, products, sums);
      run_point<taps, 3 % Depth<taps>::points>(conv, tiles, channel, inputs, products, sums);
    }
    store_outputs<taps>(conv, tiles, sums);
  }
}

void run(const Conv& conv, int64_t begin, int64_t end, float* scratch) {
  constexpr std::size_t alignment = 64;
  const auto address = reinterpret_cast<std::uintptr_t>(scratch);
  float* inputs = scratch + (alignment - address % alignment) % alignment / sizeof(float);
  conv.depth_taps == 3 ? run_blocks<3>(conv, begin, end, inputs)
                       : run_blocks<1>(conv, begin, end, inputs);
}

int64_t scratch(const Conv& conv) {
  constexpr int64_t slack = 16 + lane_count;  // alignment, and what the last vector reads beyond
  const int64_t planes = conv.depth_taps == 3 ? Depth<3>::planes : Depth<1>::planes;
  return inputs_size(conv) + products_size(conv) + groups_of(conv) * group * planes * 4 * block +
         slack;
}

// Weights of a group of outputs; in double, so that packed ones are rounded once.
typedef double Doubles __attribute__((vector_size(sizeof(double) * group)));
typedef float Singles __attribute__((vector_size(sizeof(float) * group)));

// Three taps `step` apart as four points.
inline void transform_taps(const Doubles* taps, int step, Doubles* points, int point_step) {
  const Doubles outer = (taps[0] + taps[2 * step]) * 0.5;
  const Doubles inner = taps[step] * 0.5;
  points[0] = taps[0];
  points[point_step] = outer + inner;
  points[2 * point_step] = outer - inner;
  points[3 * point_step] = taps[2 * step];
}

// Taps (3, 3) of one plane as points (4, 4).
inline void transform_plane(const float (*weights)[group], Doubles* points) {
  Doubles taps[9];
  Doubles rows[12];  // (3, 4)
  for (int i = 0; i < 9; ++i) {
    Singles given;
    std::memcpy(&given, weights[i], sizeof(given));
    taps[i] = __builtin_convertvector(given, Doubles);
  }
  for (int i = 0; i < 3; ++i) transform_taps(taps + i * 3, 1, rows + i * 4, 1);
  for (int j = 0; j < 4; ++j) transform_taps(rows + j, 4, points + j, 4);
}

// Taps (depth taps, 3, 3) of one channel as points (4 or 1, 4, 4) that lie `step` apart.
template <int taps>
void transform_weights(const float (*weights)[group], Singles* points, int step) {
  Doubles planes[taps * plane_points];
  for (int d = 0; d < taps; ++d) transform_plane(weights + d * 9, planes + d * plane_points);
  for (int i = 0; i < plane_points; ++i) {
    Doubles along[4] = {planes[i]};
    if (taps == 3) transform_taps(planes + i, plane_points, along, 1);
    for (int d = 0; d < Depth<taps>::points; ++d) {
      points[(d * plane_points + i) * step] = __builtin_convertvector(along[d], Singles);
    }
  }
}

// Packs the weights of a group of outputs, some channels at once: those of one point lie side by
// side, and those of the next far away.
template <int taps>
void pack_group(const Conv& conv, const float* weights, int64_t output_group, float* packed) {
  constexpr int most_channels = 16;
  constexpr int points = Depth<taps>::points * plane_points;
  const int64_t first = output_group * group;
  const int64_t outputs = std::min<int64_t>(group, conv.outputs - first);
  float given[most_channels * taps * 9][group] = {};
  Singles found[points][most_channels];
  int64_t count = 0;
  for (int64_t channel = 0; channel < conv.channels; channel += count) {
    const int64_t chunk = channel / chunk_channels * chunk_channels;
    count = std::min<int64_t>(most_channels, conv.channels - channel);
    for (int64_t k = 0; k < outputs; ++k) {
      const float* of = weights + ((first + k) * conv.channels + channel) * taps * 9;
      for (int64_t i = 0; i < count * taps * 9; ++i) given[i][k] = of[i];
    }
    for (int64_t c = 0; c < count; ++c) {
      transform_weights<taps>(given + c * taps * 9, &found[0][c], most_channels);
    }
    for (int i = 0; i < points; ++i) {
      float* to = packed + packed_offset<taps>(conv, chunk, i, output_group);
      std::memcpy(to + (channel - chunk) * group, found[i], count * sizeof(Singles));
    }
  }
}

void pack(const Conv& conv, const float* weights, int64_t output_group, float* packed) {
  conv.depth_taps == 3 ? pack_group<3>(conv, weights, output_group, packed)
                       : pack_group<1>(conv, weights, output_group, packed);
}

int64_t packed_size(const Conv& conv) {
  const int64_t points = conv.depth_taps == 3 ? Depth<3>::points : Depth<1>::points;
  return points * plane_points * groups_of(conv) * group * conv.channels;
}

}  // namespace

extern const sgmf::Conv3dKernel conv3d_kernel = {block, groups_of, packed_size, pack, scratch, run};

}  // namespace SGMF_ISA
