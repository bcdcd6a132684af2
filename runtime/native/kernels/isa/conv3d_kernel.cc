// The dense convolution of volumes, compiled once for each instruction set.
//
// Minimal filtering along each axis of three taps: over tiles of 2x2x2 outputs 64 products stand
// for 216, over tiles of 2x4x4 outputs 144 for 864. Inputs, weights and products of one point are
// matrices. Lanes are neighbouring tiles. The four points along the depth follow one another, so
// that the inputs of a block of tiles stay in a core's second cache.
#include "kernels/isa/conv3d_kernel.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa/conv3d_form.h"
#include "kernels/isa/conv3d_weights.h"
#include "kernels/isa/minimal_filter.h"
#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::Conv3d;

constexpr int row_room = block + 2 * lane_count;

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

template <typename F>
Block find_tiles(const Conv& conv, int64_t begin, int64_t end) {
  const int64_t across = divide_up(conv.width, F::tile);
  const int64_t down = divide_up(conv.height, F::tile);
  const int tiles = static_cast<int>(std::min<int64_t>(block, end - begin));
  Block found;
  for (int done = 0; done < tiles;) {
    const int64_t row = (begin + done) / across;
    const int64_t column = (begin + done) % across;
    const int count = static_cast<int>(std::min<int64_t>(across - column, tiles - done));
    found.segments[found.count++] = {row / down * F::planes, row % down * F::tile, column * F::tile,
                                     done, count};
    done += count;
  }
  return found;
}

// Inputs of some tiles in one row, by their position modulo the tile: value k of tile i in row r
// is phase[k % tile][r][i + k / tile].
template <int tile>
struct Rows {
  float phase[tile][tile + 2][row_room] = {};
};

// Vectors of neighbouring voxels as vectors of every second or fourth one, and back.
template <int tile>
inline void split(const Vec* voxels, Vec* phases) {
  if constexpr (tile == 2) {
    phases[0] = even_of(voxels[0], voxels[1]);
    phases[1] = odd_of(voxels[0], voxels[1]);
  } else {
    const Vec even[] = {even_of(voxels[0], voxels[1]), even_of(voxels[2], voxels[3])};
    const Vec odd[] = {odd_of(voxels[0], voxels[1]), odd_of(voxels[2], voxels[3])};
    phases[0] = even_of(even[0], even[1]);
    phases[1] = even_of(odd[0], odd[1]);
    phases[2] = odd_of(even[0], even[1]);
    phases[3] = odd_of(odd[0], odd[1]);
  }
}

template <int tile>
inline void join(const Vec* phases, Vec* voxels) {
  if constexpr (tile == 2) {
    voxels[0] = zip_low(phases[0], phases[1]);
    voxels[1] = zip_high(phases[0], phases[1]);
  } else {
    const Vec even[] = {zip_low(phases[0], phases[2]), zip_high(phases[0], phases[2])};
    const Vec odd[] = {zip_low(phases[1], phases[3]), zip_high(phases[1], phases[3])};
    for (int i = 0; i < 2; ++i) {
      voxels[2 * i] = zip_low(even[i], odd[i]);
      voxels[2 * i + 1] = zip_high(even[i], odd[i]);
    }
  }
}

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
template <typename F>
void gather(const Conv& conv, const float* channel, const Segment& tiles, int point,
            Rows<F::tile>& rows) {
  constexpr int first[] = {0, 1, 2, 1};
  constexpr int second[] = {2, 2, 1, 3};
  constexpr int tile = F::tile;
  const int spans = tiles.count + 1;  // of a tile's voxels, the last one's neighbours included
  const int64_t size = divide_up(spans, lane_count) * tile * lane_count;
  const int64_t w = tiles.w - 1;
  const int64_t inside = conv.width - w;
  float copies[2][tile * row_room];
  for (int i = 0; i < F::points; ++i) {
    const int64_t h = tiles.h - 1 + i;
    const auto row = [&](int64_t d, float* copy) {
      return row_or_copy(conv, channel, d, h, w, size, copy);
    };
    const auto split_row = [&](auto voxels) {
      for (int span = 0; span < spans; span += lane_count) {
        Vec given[tile];
        Vec phases[tile];
        for (int k = 0; k < tile; ++k) given[k] = voxels(tile * span + k * lane_count);
        split<tile>(given, phases);
        for (int k = 0; k < tile; ++k) store(rows.phase[k][i] + span, phases[k]);
      }
    };
    const float* a = row(F::taps == 3 ? tiles.d - 1 + first[point] : tiles.d, copies[0]);
    if (F::taps == 1) {
      split_row([&](int64_t k) { return load(a + k); });
    } else {
      const float* b = row(tiles.d - 1 + second[point], copies[1]);
      if (point == 1) {
        split_row([&](int64_t k) { return load(a + k) + load(b + k); });
      } else {
        split_row([&](int64_t k) { return load(a + k) - load(b + k); });
      }
    }
    if (w < 0) rows.phase[0][i][0] = 0.0f;
    for (int64_t k = inside; k < tile * spans; ++k) rows.phase[k % tile][i][k / tile] = 0.0f;
  }
}

// The two inner axes of one channel; its points lie `step` floats apart.
template <int tile>
void transform_inputs(const Rows<tile>& near, const Rows<tile>& far, int shift, float* points,
                      int64_t step) {
  constexpr int count = tile + 2;
  for (int t = 0; t < block; t += lane_count) {
    Vec rows[count][count];
    for (int i = 0; i < count; ++i) {
      Vec d[count];
      for (int k = 0; k < tile; ++k) d[k] = load(near.phase[k][i] + t);
      d[tile] = load(far.phase[0][i] + t + shift);
      d[tile + 1] = load(far.phase[1][i] + t + shift);
      MinimalFilter<tile>::inputs(d, 1, rows[i]);
    }
    for (int j = 0; j < count; ++j) {
      Vec column[count];
      MinimalFilter<tile>::inputs(&rows[0][j], count, column);
      for (int i = 0; i < count; ++i) store(points + (i * count + j) * step + t, column[i]);
    }
  }
}

// Where tiles lie in several rows, their inputs are brought side by side.
template <int tile>
void append(const Segment& tiles, const Rows<tile>& from, Rows<tile>& near, Rows<tile>& far) {
  for (int i = 0; i < tile + 2; ++i) {
    for (int t = 0; t < tiles.count; t += lane_count) {
      const int to = tiles.first + t;
      for (int k = 0; k < tile; ++k) store(near.phase[k][i] + to, load(from.phase[k][i] + t));
      for (int k = 0; k < 2; ++k) store(far.phase[k][i] + to, load(from.phase[k][i] + t + 1));
    }
  }
}

// The inputs of `count` channels at one point along the depth: (points of a plane, count, block).
template <typename F>
void load_inputs(const Conv& conv, const Block& tiles, int64_t channel, int64_t count, int point,
                 float* inputs) {
  const int64_t voxels = conv.depth * conv.height * conv.width;
  Rows<F::tile> rows;
  Rows<F::tile> near;
  Rows<F::tile> far;
  for (int64_t c = 0; c < count; ++c) {
    const int64_t in_rest = channel + c - conv.first_channels;
    const float* x = in_rest < 0 ? conv.x + (channel + c) * voxels : conv.rest + in_rest * voxels;
    for (int s = 0; s < tiles.count; ++s) {
      gather<F>(conv, x, tiles.segments[s], point, rows);
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

// Adds a value of a point along the depth at (h, w) `place`: sums are (planes, outputs of a plane,
// block).
template <typename F, int point>
void add_point(Vec value, int place, float* sums) {
  float* first = sums + place * block;
  float* second = sums + (F::plane_outputs + place) * block;
  if (F::taps == 1 || point != 3) add(first, value);
  if (F::taps == 1) return;
  if (point == 1) add(second, value);
  if (point == 2 || point == 3) subtract(second, value);
}

// Products (points of a plane, group, block) of a point along the depth, added to sums (group,
// planes, outputs of a plane, block).
template <typename F, int point>
void transform_products(const float* products, float* sums) {
  constexpr int tile = F::tile;
  for (int k = 0; k < group; ++k) {
    for (int t = 0; t < block; t += lane_count) {
      Vec rows[F::points][tile];
      for (int i = 0; i < F::points; ++i) {
        Vec given[F::points];
        for (int j = 0; j < F::points; ++j) {
          given[j] = load(products + ((i * F::points + j) * group + k) * block + t);
        }
        MinimalFilter<tile>::outputs(given, 1, rows[i]);
      }
      float* at = sums + k * F::planes * F::plane_outputs * block + t;
      for (int j = 0; j < tile; ++j) {
        Vec column[tile];
        MinimalFilter<tile>::outputs(&rows[0][j], tile, column);
        for (int i = 0; i < tile; ++i) add_point<F, point>(column[i], i * tile + j, at);
      }
    }
  }
}

// The inputs of a point stay in the first cache while the weights of a chunk of outputs pass.
template <typename F, int point>
void run_point(const Conv& conv, const Block& tiles, int64_t channel, float* inputs,
               float* products, float* sums) {
  constexpr int64_t sums_of_group = group * F::planes * F::plane_outputs * block;
  const int64_t count = std::min(F::chunk_channels, conv.channels - channel);
  load_inputs<F>(conv, tiles, channel, count, point, inputs);
  for (int64_t begin = 0; begin < groups_of(conv); begin += F::chunk_groups) {
    const int64_t end = std::min(begin + F::chunk_groups, groups_of(conv));
    for (int p = 0; p < F::plane_points; ++p) {
      const float* weights =
          conv.weights + F::packed_offset(conv, channel, point * F::plane_points + p, begin);
      for (int64_t k = 0; k < end - begin; ++k) {
        multiply(inputs + p * count * block, weights + k * count * group, count,
                 products + (k * F::plane_points + p) * group * block);
      }
    }
    for (int64_t k = begin; k < end; ++k) {
      transform_products<F, point>(products + (k - begin) * F::plane_points * group * block,
                                   sums + k * sums_of_group);
    }
  }
}

// A row of outputs from its phases, which lie `block` apart.
template <int tile>
void store_row(const float* phases, int64_t size, float* y) {
  for (int64_t w = 0; w < size; w += tile * lane_count) {
    Vec given[tile];
    Vec voxels[tile];
    for (int k = 0; k < tile; ++k) given[k] = load(phases + k * block + w / tile);
    join<tile>(given, voxels);
    for (int k = 0; k < tile && w + k * lane_count < size; ++k) {
      const int64_t left = size - w - k * lane_count;
      store_lanes(y + w + k * lane_count, voxels[k],
                  static_cast<int>(std::min<int64_t>(left, lane_count)));
    }
  }
}

template <typename F>
void store_outputs(const Conv& conv, const Block& tiles, const float* sums) {
  constexpr int rows = F::planes * F::tile;
  for (int64_t k = 0; k < conv.outputs; ++k) {
    for (int s = 0; s < tiles.count; ++s) {
      const Segment& row = tiles.segments[s];
      const int64_t size = std::min<int64_t>(F::tile * row.count, conv.width - row.w);
      for (int i = 0; i < rows; ++i) {
        const int64_t d = row.d + i / F::tile;
        const int64_t h = row.h + i % F::tile;
        if (d >= conv.depth || h >= conv.height) continue;
        store_row<F::tile>(sums + (k * rows + i) * F::tile * block + row.first, size,
                           conv.y + ((k * conv.depth + d) * conv.height + h) * conv.width + row.w);
      }
    }
  }
}

template <typename F>
int64_t inputs_size(const Conv& conv) {
  return F::plane_points * std::min(F::chunk_channels, conv.channels) * block;
}

template <typename F>
int64_t products_size(const Conv& conv) {
  return F::plane_points * std::min(F::chunk_groups, groups_of(conv)) * group * block;
}

template <typename F>
void run_blocks(const Conv& conv, int64_t begin, int64_t end, float* inputs) {
  constexpr int64_t sums_of_output = F::planes * F::plane_outputs * block;
  float* products = inputs + inputs_size<F>(conv);
  float* sums = products + products_size<F>(conv);
  for (int64_t tile = begin; tile < end; tile += block) {
    const Block tiles = find_tiles<F>(conv, tile, end);
    for (int64_t k = 0; k < groups_of(conv) * group; ++k) {
      std::fill_n(sums + k * sums_of_output, sums_of_output,
                  k < conv.outputs ? conv.bias[k] : 0.0f);
    }
    for (int64_t channel = 0; channel < conv.channels; channel += F::chunk_channels) {
      run_point<F, 0>(conv, tiles, channel, inputs, products, sums);
      if constexpr (F::taps == 3) {
        run_point<F, 1>(conv, tiles, channel, inputs, products, sums);
        run_point<F, 2>(conv, tiles, channel, inputs, products, sums);
        run_point<F, 3>(conv, tiles, channel, inputs, products, sums);
      }
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
           groups_of(conv) * group * F::planes * F::plane_outputs * block + slack;
  });
}

int64_t tiles(const Conv& conv) {
  return with_form(conv, [&](auto form) {
    using F = decltype(form);
    return divide_up(conv.depth, F::planes) * divide_up(conv.height, F::tile) *
           divide_up(conv.width, F::tile);
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
