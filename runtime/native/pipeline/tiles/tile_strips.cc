#include "pipeline/tiles/tile_strips.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace sgmf {
namespace {

using Corner = std::pair<int64_t, int64_t>;

Corner corner(const Box& box) { return {box[0].begin, box[1].begin}; }

std::vector<int64_t> starts(const std::vector<Box>& boxes, int axis) {
  std::set<int64_t> found;
  for (const Box& box : boxes) found.insert(box[axis].begin);
  return {found.begin(), found.end()};
}

// From each start to the next, inside `side`; the first may be before it.
std::map<int64_t, Range> between(const std::vector<int64_t>& starts, const Range& side) {
  std::map<int64_t, Range> ranges;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const int64_t begin = i ? std::max(starts[i], side.begin) : side.begin;
    const int64_t end = i + 1 < starts.size() ? std::max(starts[i + 1], side.begin) : side.end;
    ranges[starts[i]] = {begin, end};
  }
  return ranges;
}

// Neighbours of the same corner.
std::vector<Strip> grouped(const std::vector<Box>& boxes) {
  std::vector<Strip> groups;
  for (const Box& box : boxes) {
    if (groups.empty() || corner(groups.back().boxes.front()) != corner(box)) groups.emplace_back();
    groups.back().boxes.push_back(box);
  }
  return groups;
}

}  // namespace

std::vector<Strip> tile_strips(const std::vector<Box>& boxes, const Box& region) {
  const auto planes = between(starts(boxes, 0), region[0]);
  const auto rows = between(starts(boxes, 1), region[1]);
  std::vector<Strip> groups = grouped(boxes);
  std::map<Corner, std::size_t> last;
  for (std::size_t i = 0; i < groups.size(); ++i) last[corner(groups[i].boxes.front())] = i;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Corner place = corner(groups[i].boxes.front());
    groups[i].planes = planes.at(place.first);
    groups[i].rows = rows.at(place.second);
    // Steps below one voxel let tiles start at the same depth again: the last ones finish it.
    if (last[place] != i) groups[i].planes.end = groups[i].planes.begin;
  }
  return groups;
}

int64_t most_lines(const std::vector<Box>& boxes, const Box& region) {
  const Triple tile = extent(boxes.front());
  const Range rows = region[1];
  std::set<Corner> places;
  for (const Box& box : boxes) places.insert(corner(box));
  if (places.size() < grouped(boxes).size()) return (tile[0] + 1) * rows.size();
  const std::vector<int64_t> depths = starts(boxes, 0), heights = starts(boxes, 1);
  int64_t most = 0;
  for (std::size_t i = 0; i < depths.size(); ++i) {
    // Sums for the tiles to come, and the last finished plane.
    const int64_t before = i ? depths[i - 1] + tile[0] - depths[i] + 1 : 0;
    const int64_t all = tile[0] + (i ? 1 : 0);
    const int64_t after = i + 1 < depths.size() ? tile[0] - (depths[i + 1] - depths[i]) + 1 : 1;
    for (const int64_t height : heights) {
      const int64_t top = std::max(height, rows.begin);
      const int64_t bottom = std::min(height + tile[1], rows.end);
      // The last finished row stays whole.
      const int64_t edge = std::min<int64_t>(top - rows.begin, 1);
      most = std::max(most, (top - rows.begin - edge) * after + (edge + bottom - top) * all +
                                (rows.end - bottom) * before);
    }
  }
  return most;
}

}  // namespace sgmf
