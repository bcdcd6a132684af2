#include "pipeline/labels/label_plan.h"

#include <algorithm>
#include <set>
#include <utility>

namespace sgmf {
namespace {

// Numbers of blocks along height and width that are considered.
constexpr int64_t divisions[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32};

// Borders of `count` parts of a length, about equally long; less if the length has fewer voxels.
std::vector<int64_t> part_edges(int64_t length, int64_t count) {
  std::vector<int64_t> edges;
  for (int64_t i = 0; i <= count; ++i) {
    const int64_t edge = (2 * i * length + count) / (2 * count);
    if (edges.empty() || edge > edges.back()) edges.push_back(edge);
  }
  return edges;
}

}  // namespace

int64_t LabelPlan::Division::longest() const {
  int64_t most = 0;
  for (const Part& part : parts) most = std::max(most, part.source.size());
  return most;
}

LabelPlan::LabelPlan(const Triple& image_shape, const Tiling& tiling, GridTaps taps)
    : tile_(tiling.tile),
      taps_(std::move(taps)),
      padding_(image_shape, tiling.tile),
      boxes_(tile_boxes(padding_.shape, tiling)) {
  for (const int64_t count : divisions) {
    rows_.push_back(divide(1, count));
    columns_.push_back(divide(2, count));
    lines_.push_back(lines_of(rows_.back()));
  }
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const int64_t lines = *std::max_element(lines_[row].begin(), lines_[row].end());
    for (const Division& column : columns_) {
      candidates_.push_back({lines, column.longest(), rows_[row].tile_runs * column.tile_runs});
    }
  }
}

bool LabelPlan::choose(const std::function<bool(const Candidate&)>& fits) {
  const Candidate* best = nullptr;
  for (const Candidate& candidate : candidates_) {
    if (best && candidate.tile_runs >= best->tile_runs) continue;
    if (fits(candidate)) best = &candidate;
  }
  blocks_.clear();
  if (!best) return false;
  chosen_ = static_cast<std::size_t>(best - candidates_.data());
  const std::size_t row = chosen_ / columns_.size();
  for (std::size_t i = 0; i < rows_[row].parts.size(); ++i) {
    const Division::Part& height = rows_[row].parts[i];
    for (const Division::Part& width : columns_[chosen_ % columns_.size()].parts) {
      const Box source{Range{0, padding_.shape[0]}, height.source, width.source};
      blocks_.push_back({{height.target, width.target}, source, lines_[row][i]});
    }
  }
  return true;
}

std::vector<Box> LabelPlan::tiles() const {
  std::vector<Box> all;
  for (const Block& block : blocks_) {
    const std::vector<Box> some = tiles_of(block);
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

GridTaps LabelPlan::taps_in_tile() const {
  GridTaps found;
  for (int axis = 0; axis < 3; ++axis) {
    found[axis] = taps_[axis].part({0, taps_[axis].count()}, -padding_.place[axis].begin);
  }
  return found;
}

void LabelPlan::run(LogitLines& lines, const std::vector<float>& weights,
                    const std::function<void(int64_t, int64_t)>& progress) const {
  const int64_t count = static_cast<int64_t>(tiles().size());
  int64_t done = 0;
  progress(0, count);
  for (const Block& block : blocks_) {
    const std::vector<Box> tiles = tiles_of(block);
    lines.begin(block.lines, block.width());
    LogitSums sums(lines, block.source, tile_[0], block.lines);
    for (const Strip& strip : tile_strips(tiles, block.source)) {
      for (const Box& box : strip.boxes) {
        lines.next_tile();
        sums.add(box);
        progress(++done, count);
      }
      const Places finished = sums.finish(strip, weight_sums(strip, block, tiles, weights));
      const Box target = target_of(strip, block);
      if (std::all_of(target.begin(), target.end(), [](const Range& r) { return r.size() > 0; })) {
        lines.finish(finished, target, taps_of(target, strip, block));
      }
      sums.release(strip);
    }
  }
}

// Sums of the weights of the tiles, in their order.
std::vector<float> LabelPlan::weight_sums(const Strip& strip, const Block& block,
                                          const std::vector<Box>& tiles,
                                          const std::vector<float>& weights) const {
  const Box region{strip.planes, strip.rows, block.source[2]};
  const Triple shape = extent(region);
  if (*std::min_element(shape.begin(), shape.end()) < 1) return {};
  std::vector<float> total(static_cast<std::size_t>(voxel_count(shape)));
  for (const Box& box : tiles) {
    if (!meet(box, region)) continue;
    const Box both = shared(box, region);
    for (int64_t z = both[0].begin; z < both[0].end; ++z) {
      for (int64_t y = both[1].begin; y < both[1].end; ++y) {
        const float* from = weights.data() +
                            ((z - box[0].begin) * tile_[1] + y - box[1].begin) * tile_[2] +
                            both[2].begin - box[2].begin;
        float* to = total.data() +
                    ((z - region[0].begin) * shape[1] + y - region[1].begin) * shape[2] +
                    both[2].begin - region[2].begin;
        for (int64_t x = 0; x < both[2].size(); ++x) to[x] += from[x];
      }
    }
  }
  return total;
}

// Target voxels whose upper neighbours lie in a strip; the lower ones are kept for them.
Box LabelPlan::target_of(const Strip& strip, const Block& block) const {
  const auto reaching = [&](int axis, const Range& side) {
    return taps_[axis].reaching(moved(side, -padding_.place[axis].begin));
  };
  return {reaching(0, strip.planes), shared(reaching(1, strip.rows), block.target[0]),
          block.target[1]};
}

// Taps of target voxels from what LogitSums::finish shows of a strip.
GridTaps LabelPlan::taps_of(const Box& target, const Strip& strip, const Block& block) const {
  const Triple origins{std::max(strip.planes.begin - 1, block.source[0].begin),
                       std::max(strip.rows.begin - 1, block.source[1].begin),
                       block.source[2].begin};
  GridTaps found;
  for (int axis = 0; axis < 3; ++axis) {
    found[axis] = taps_[axis].part(target[axis], origins[axis] - padding_.place[axis].begin);
  }
  return found;
}

std::vector<Box> LabelPlan::tiles_of(const Block& block) const {
  std::vector<Box> found;
  for (const Box& box : boxes_) {
    if (meet(box, block.source)) found.push_back(box);
  }
  return found;
}

LabelPlan::Division LabelPlan::divide(int axis, int64_t count) const {
  const AxisTaps& taps = taps_[axis];
  const int64_t origin = padding_.place[axis].begin;
  const std::vector<int64_t> edges = part_edges(taps.count(), count);
  std::set<int64_t> starts;
  for (const Box& box : boxes_) starts.insert(box[axis].begin);
  Division division;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const Range source{taps.low[edges[i]] + origin, taps.high[edges[i + 1] - 1] + 1 + origin};
    division.parts.push_back({{edges[i], edges[i + 1]}, source});
    for (const int64_t start : starts) {
      division.tile_runs += meet(Range{start, start + tile_[axis]}, source);
    }
  }
  return division;
}

// Lines that exist at once at most, for each part of a division along height.
std::vector<int64_t> LabelPlan::lines_of(const Division& rows) const {
  std::vector<int64_t> found;
  for (const Division::Part& part : rows.parts) {
    const Box region{Range{0, padding_.shape[0]}, part.source, boxes_.front()[2]};
    std::vector<Box> column;
    for (const Box& box : boxes_) {
      if (box[2].begin == 0 && meet(box, region)) column.push_back(box);
    }
    found.push_back(most_lines(column, region));
  }
  return found;
}

}  // namespace sgmf
