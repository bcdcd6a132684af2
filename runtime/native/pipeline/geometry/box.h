// Boxes of voxels, depth slowest.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "pipeline/spec.h"

namespace sgmf {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const Range& other) const { return begin == other.begin && end == other.end; }
};

using Box = std::array<Range, 3>;

inline bool meet(const Range& a, const Range& b) { return a.begin < b.end && b.begin < a.end; }

inline bool meet(const Box& a, const Box& b) {
  return meet(a[0], b[0]) && meet(a[1], b[1]) && meet(a[2], b[2]);
}

inline Range shared(const Range& a, const Range& b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

// The voxels that two boxes which meet share.
inline Box shared(const Box& a, const Box& b) {
  return {shared(a[0], b[0]), shared(a[1], b[1]), shared(a[2], b[2])};
}

inline Range moved(const Range& range, int64_t by) { return {range.begin + by, range.end + by}; }

inline Triple extent(const Box& box) { return {box[0].size(), box[1].size(), box[2].size()}; }

inline int64_t voxel_count(const Triple& shape) { return shape[0] * shape[1] * shape[2]; }

inline Box whole(const Triple& shape) { return {Range{0, shape[0]}, {0, shape[1]}, {0, shape[2]}}; }

}  // namespace sgmf
