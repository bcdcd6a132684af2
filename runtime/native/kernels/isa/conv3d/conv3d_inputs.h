// Inputs of the dense convolution of volumes at the points of its filters, block by block.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/isa/conv3d/conv3d_form.h"

namespace SGMF_ISA {

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
Block find_tiles(const sgmf::Conv3d& conv, int64_t begin, int64_t end) {
  const int64_t across = divide_up(conv.out_width(), F::tile);
  const int64_t down = divide_up(conv.out_height(), F::tile);
  const int tiles = static_cast<int>(std::min<int64_t>(block, end - begin));
  Block found;
  for (int done = 0; done < tiles;) {
    const int64_t row = (begin + done) / across;
    const int64_t column = (begin + done) % across;
    const int count = static_cast<int>(std::min<int64_t>(across - column, tiles - done));
    found.segments[found.count++] = {row / down * F::Depth::planes, row % down * F::tile,
                                     column * F::tile, done, count};
    done += count;
  }
  return found;
}

// Inputs of some tiles in one row, by their position modulo the span of a tile: value k of tile i
// in row r is phase[k % span][r][i + k / span].
template <typename Plane>
struct Rows {
  float phase[Plane::span][Plane::points][row_room] = {};
};

// Vectors of neighbouring voxels as vectors of every second or fourth one.
template <int span>
inline void split(const Vec* voxels, Vec* phases) {
  if constexpr (span == 2) {
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

// `size` voxels of a row of the volume from w, zeros outside. Rows are read beyond their ends where
// that is the volume's memory, and what was read there is overwritten later.
inline const float* row_or_copy(const sgmf::Conv3d& conv, const float* channel, int64_t d,
                                int64_t h, int64_t w, int64_t size, float* copy) {
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
void gather(const sgmf::Conv3d& conv, const float* channel, const Segment& tiles, int point,
            Rows<typename F::Plane>& rows) {
  constexpr int span = F::Plane::span;
  const int spans = tiles.count + 1;  // of a tile's voxels, the last one's neighbours included
  const int64_t size = divide_up(spans, lane_count) * span * lane_count;
  const int64_t d = tiles.d * F::Depth::stride - F::Depth::tap_count / 2;
  const int64_t w = tiles.w * F::Plane::stride - 1;
  const int64_t inside = conv.width - w;
  float copies[2][span * row_room];
  for (int i = 0; i < F::Plane::points; ++i) {
    const int64_t h = tiles.h * F::Plane::stride - 1 + i;
    const auto row = [&](int plane, float* copy) {
      return row_or_copy(conv, channel, d + plane, h, w, size, copy);
    };
    const auto split_row = [&](auto voxels) {
      for (int place = 0; place < spans; place += lane_count) {
        Vec given[span];
        Vec phases[span];
        for (int k = 0; k < span; ++k) given[k] = voxels(span * place + k * lane_count);
        split<span>(given, phases);
        for (int k = 0; k < span; ++k) store(rows.phase[k][i] + place, phases[k]);
      }
    };
    const float* a = row(F::Depth::a[point], copies[0]);
    if (F::Depth::sign[point] == 0) {
      split_row([&](int64_t k) { return load(a + k); });
    } else {
      const float* b = row(F::Depth::b[point], copies[1]);
      if (F::Depth::sign[point] > 0) {
        split_row([&](int64_t k) { return load(a + k) + load(b + k); });
      } else {
        split_row([&](int64_t k) { return load(a + k) - load(b + k); });
      }
    }
    if (w < 0) rows.phase[0][i][0] = 0.0f;
    for (int64_t k = inside; k < span * spans; ++k) rows.phase[k % span][i][k / span] = 0.0f;
  }
}

// The two inner axes of one channel; its points lie `step` floats apart.
template <typename Plane>
void transform_inputs(const Rows<Plane>& near, const Rows<Plane>& far, int shift, float* points,
                      int64_t step) {
  constexpr int count = Plane::points;
  for (int t = 0; t < block; t += lane_count) {
    Vec rows[count][count];
    for (int i = 0; i < count; ++i) {
      Vec d[count];
      for (int k = 0; k < Plane::span; ++k) d[k] = load(near.phase[k][i] + t);
      for (int k = Plane::span; k < count; ++k) {
        d[k] = load(far.phase[k - Plane::span][i] + t + shift);
      }
      Plane::inputs(d, 1, rows[i]);
    }
    for (int j = 0; j < count; ++j) {
      Vec column[count];
      Plane::inputs(&rows[0][j], count, column);
      for (int i = 0; i < count; ++i) store(points + (i * count + j) * step + t, column[i]);
    }
  }
}

// Where tiles lie in several rows, their inputs are brought side by side.
template <typename Plane>
void append(const Segment& tiles, const Rows<Plane>& from, Rows<Plane>& near, Rows<Plane>& far) {
  for (int i = 0; i < Plane::points; ++i) {
    for (int t = 0; t < tiles.count; t += lane_count) {
      const int to = tiles.first + t;
      for (int k = 0; k < Plane::span; ++k) {
        store(near.phase[k][i] + to, load(from.phase[k][i] + t));
      }
      for (int k = 0; k < Plane::points - Plane::span; ++k) {
        store(far.phase[k][i] + to, load(from.phase[k][i] + t + 1));
      }
    }
  }
}

// Floats from one point of a plane to the next. The points of a channel are written by turns, and
// distances of a page would send all of them to the same few places of the first cache.
inline int64_t point_step(int64_t channels) {
  constexpr int64_t page = 4096 / sizeof(float);
  const int64_t size = channels * block;
  return size + (page + block - size % page) % page;
}

// The inputs of `count` channels at one point along the depth: (points of a plane, count, block).
template <typename F>
void load_inputs(const sgmf::Conv3d& conv, const Block& tiles, int64_t channel, int64_t count,
                 int point, float* inputs) {
  const int64_t voxels = conv.depth * conv.height * conv.width;
  Rows<typename F::Plane> rows;
  Rows<typename F::Plane> near;
  Rows<typename F::Plane> far;
  for (int64_t c = 0; c < count; ++c) {
    const int64_t in_rest = channel + c - conv.first_channels;
    const float* x = in_rest < 0 ? conv.x + (channel + c) * voxels : conv.rest + in_rest * voxels;
    for (int s = 0; s < tiles.count; ++s) {
      gather<F>(conv, x, tiles.segments[s], point, rows);
      if (tiles.count > 1) append(tiles.segments[s], rows, near, far);
    }
    const bool is_row = tiles.count == 1;
    transform_inputs(is_row ? rows : near, is_row ? rows : far, is_row, inputs + c * block,
                     point_step(count));
  }
}

}  // namespace SGMF_ISA
