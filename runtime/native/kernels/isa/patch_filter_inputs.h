// What a block of tiles of a patch embedding reads, transformed for minimal filtering: see
// patch_filter_kernel.cc.
#pragma once

#include <algorithm>

#include "kernels/isa/patch_embed_kernel.h"
#include "kernels/isa/phases.h"

namespace SGMF_ISA {
namespace patch_filter {

using sgmf::PatchEmbed;

constexpr int vectors = 2;                       // of tiles that are multiplied together
constexpr int block = 2 * vectors * lane_count;  // tiles
constexpr int64_t cached_floats = 1 << 16;       // of inputs at one point along the depth
constexpr int points = 3;                        // along each axis
constexpr int plane_points = points * points;

// Phases of an axis, and how many of them, the first ones, have two taps.
struct Axis {
  Axis(const PatchEmbed& op, int axis)
      : stride(op.stride[axis]),
        pad(op.pad[axis]),
        extent(op.input[axis]),
        tiles((op.output[axis] + 1) / 2),
        phases(std::min(op.kernel[axis], stride)),
        doubled(op.kernel[axis] - phases) {}

  int64_t terms(int point) const { return point == 1 ? doubled : phases; }
  int64_t all_terms() const { return 2 * phases + doubled; }

  // Where the inputs d0, d1 and d2 of a tile lie.
  int64_t position(int64_t tile, int input, int64_t phase) const {
    return (2 * tile + input) * stride + phase - pad;
  }

  int64_t stride;
  int64_t pad;
  int64_t extent;
  int64_t tiles;
  int64_t phases;
  int64_t doubled;
};

struct Geometry {
  explicit Geometry(const PatchEmbed& op) : depth(op, 0), height(op, 1), width(op, 2) {}

  int64_t plane_terms() const { return height.all_terms() * width.all_terms(); }

  Axis depth;
  Axis height;
  Axis width;
};

// Channels of x whose inputs stay in the cache together.
inline int64_t chunk_channels(const Geometry& g) {
  return std::max<int64_t>(1, cached_floats / (block * g.depth.phases * g.plane_terms()));
}

inline void copy(const float* from, int64_t size, float* to) {
  for_each_vector(size, [&](int64_t i, auto lanes) {
    store_lanes(to + i, load_lanes(from + i, lanes), lanes);
  });
}

inline void subtract(const float* a, const float* b, int64_t size, float* to) {
  for_each_vector(size, [&](int64_t i, auto lanes) {
    store_lanes(to + i, load_lanes(a + i, lanes) - load_lanes(b + i, lanes), lanes);
  });
}

// `size` values of a term at a point.
inline void write_term(int point, bool is_doubled, const float* d0, const float* d1,
                       const float* d2, int64_t size, float* to) {
  if (point == 1 || (point == 2 && !is_doubled)) return copy(d1, size, to);
  if (!is_doubled) return copy(d0, size, to);
  subtract(point == 0 ? d0 : d2, d1, size, to);
}

// Neighbouring tiles of a block in one row.
struct Segment {
  int64_t row;
  int64_t column;
  int first;  // tile of the block
  int count;
};

struct Block {
  Segment segments[block];
  int count = 0;
};

inline Block find_tiles(const Geometry& g, int64_t begin, int64_t end) {
  const int tiles = static_cast<int>(std::min<int64_t>(block, end - begin));
  Block found;
  for (int done = 0; done < tiles;) {
    const int64_t column = (begin + done) % g.width.tiles;
    const int count = static_cast<int>(std::min<int64_t>(g.width.tiles - column, tiles - done));
    found.segments[found.count++] = {(begin + done) / g.width.tiles, column, done, count};
    done += count;
  }
  return found;
}

// A plane of the volume, or the difference of two; nullptr stands for zeros.
struct Planes {
  const float* plus;
  const float* minus;
};

// Rows of planes for some tiles.
class RowReader {
 public:
  RowReader(const Geometry& g, float* scratch)
      : axis_(g.width),
        height_(g.height.extent),
        line_(scratch),
        inputs_(scratch + line_size(g)) {}

  static int64_t size(const Geometry& g) { return line_size(g) + 2 * g.width.stride * room; }

  // Writes all terms of a row, (terms, block): those of the first point, then of the others.
  void read(const Planes& planes, int64_t h, const Segment& tiles, float* terms) {
    fill_line(planes, h, tiles);
    split_line(tiles.count);
    for (int point = 0; point < points; ++point) {
      for (int64_t phase = 0; phase < axis_.terms(point); ++phase, terms += block) {
        const float* d0 = inputs_ + phase * room;
        const float* d1 = inputs_ + (axis_.stride + phase) * room;
        write_term(point, phase < axis_.doubled, d0, d1, d0 + 1, tiles.count, terms);
      }
    }
  }

 private:
  static constexpr int64_t room = block + 1;  // of one phase: d2 of the last tile follows

  static int64_t line_size(const Geometry& g) { return 2 * g.width.stride * room; }

  void fill_line(const Planes& planes, int64_t h, const Segment& tiles) {
    const int64_t size = (2 * tiles.count + 1) * axis_.stride;
    const int64_t first = axis_.position(tiles.column, 0, 0);
    const bool is_inside = h >= 0 && h < height_ && (planes.plus || planes.minus);
    const int64_t begin = is_inside ? std::clamp<int64_t>(-first, 0, size) : size;
    const int64_t end = std::max(begin, std::min(axis_.extent - first, size));
    std::fill(line_, line_ + begin, 0.0f);
    std::fill(line_ + end, line_ + size, 0.0f);
    const int64_t at = h * axis_.extent + first + begin;
    float* to = line_ + begin;
    if (begin == end) return;
    if (!planes.minus) return copy(planes.plus + at, end - begin, to);
    if (planes.plus) return subtract(planes.plus + at, planes.minus + at, end - begin, to);
    std::fill(to, line_ + end, 0.0f);
    subtract(to, planes.minus + at, end - begin, to);
  }

  // Of a phase, every other input is a d0 and the next a d1; d2 is d0 of the next tile.
  void split_line(int64_t count) {
    const int64_t phases = 2 * axis_.stride;
    int64_t done = 0;
    if (phases == 2) done = split_whole<2>(count);
    if (phases == 4) done = split_whole<4>(count);
    if (phases == 8) done = split_whole<8>(count);
    for (int64_t t = done; t <= count; ++t) {
      const int64_t last = t < count ? phases : axis_.stride;
      for (int64_t i = 0; i < last; ++i) inputs_[i * room + t] = line_[t * phases + i];
    }
  }

  template <int phases>
  int64_t split_whole(int64_t count) {
    float* to[phases];
    for (int i = 0; i < phases; ++i) to[i] = inputs_ + i * room;
    int64_t t = 0;
    for (; t + lane_count <= count; t += lane_count) split_vectors<phases>(line_, to, t);
    return t;
  }

  const Axis& axis_;
  int64_t height_;
  float* line_;
  float* inputs_;  // d0 of all phases, then d1
};

// Inputs of some channels at a point along the depth: for each point of the plane (channels, depth
// phases, height phases, width phases, block).
class Inputs {
 public:
  Inputs(const Geometry& g, float* scratch)
      : g_(g),
        reader_(g, scratch),
        rows_(scratch + RowReader::size(g)),
        values_(rows_ + rows_size(g)) {}

  static int64_t size(const Geometry& g, int64_t channels) {
    return RowReader::size(g) + rows_size(g) + channels * g.depth.phases * g.plane_terms() * block;
  }

  void set(int depth_point, int64_t channels) {
    per_phase_ = channels * g_.depth.terms(depth_point);
    int64_t at = 0;
    for (int p = 0; p < plane_points; ++p) {
      begin_[p] = values_ + at;
      at += count(p) * block;
    }
  }

  int64_t count(int p) const {
    return per_phase_ * g_.height.terms(p / points) * g_.width.terms(p % points);
  }
  const float* of(int p) const { return begin_[p]; }

  // Those of a plane, the `index`-th of all channels and depth phases.
  void load(const Planes& planes, const Block& tiles, int64_t index) {
    for (int64_t phase = 0; phase < g_.height.phases; ++phase) {
      float* row = rows_;
      for (int i = 0; i < (phase < g_.height.doubled ? 3 : 2); ++i, row += row_size(g_)) {
        for (int s = 0; s < tiles.count; ++s) {
          const Segment& segment = tiles.segments[s];
          reader_.read(planes, g_.height.position(segment.row, i, phase), segment,
                       row + segment.first);
        }
      }
      for (int point = 0; point < points; ++point) {
        if (phase < g_.height.terms(point)) transform(point, phase, index);
      }
    }
  }

 private:
  static int64_t row_size(const Geometry& g) { return g.width.all_terms() * block; }
  static int64_t rows_size(const Geometry& g) { return 3 * row_size(g); }

  void transform(int point, int64_t phase, int64_t index) {
    const float* row = rows_;
    for (int column = 0; column < points; ++column) {
      const int64_t size = g_.width.terms(column) * block;
      const int64_t at = index * g_.height.terms(point) + phase;
      write_term(point, phase < g_.height.doubled, row, row + row_size(g_), row + 2 * row_size(g_),
                 size, begin_[point * points + column] + at * size);
      row += size;
    }
  }

  const Geometry& g_;
  RowReader reader_;
  float* rows_;  // of a phase: those of d0, d1 and d2
  float* values_;
  float* begin_[plane_points] = {};
  int64_t per_phase_ = 0;
};

}  // namespace patch_filter
}  // namespace SGMF_ISA
