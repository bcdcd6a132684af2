#include "kernels/interface/label_resample.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/vectorised.h"

namespace sgmf {
namespace {

using Args = sgmf_label_resample_args;

// Consecutive target positions of an axis that share their two source positions.
struct Group {
  int64_t begin;
  int64_t end;
  int64_t low;
  int64_t high;
};

std::vector<Group> groups(const sgmf_axis_taps& taps) {
  std::vector<Group> found;
  for (int64_t i = 0; i < taps.count; ++i) {
    if (found.empty() || found.back().low != taps.low[i] || found.back().high != taps.high[i]) {
      found.push_back({i, i, taps.low[i], taps.high[i]});
    }
    found.back().end = i + 1;
  }
  return found;
}

// Smallest and largest of four rows at each column.
SGMF_VECTORISED void column_bounds(const float* a, const float* b, const float* c, const float* d,
                                   int64_t width, float* lowest, float* highest) {
  for (int64_t x = 0; x < width; ++x) {
    const float ab_min = a[x] < b[x] ? a[x] : b[x];
    const float cd_min = c[x] < d[x] ? c[x] : d[x];
    const float ab_max = a[x] > b[x] ? a[x] : b[x];
    const float cd_max = c[x] > d[x] ? c[x] : d[x];
    lowest[x] = ab_min < cd_min ? ab_min : cd_min;
    highest[x] = ab_max > cd_max ? ab_max : cd_max;
  }
  lowest[width] = lowest[width - 1];
  highest[width] = highest[width - 1];
}

// Raises `floor` to the least that this channel reaches within each cell [x, x + 1].
SGMF_VECTORISED void raise_floor(const float* lowest, int64_t width, float* floor) {
  for (int64_t x = 0; x < width; ++x) {
    const float least = lowest[x] < lowest[x + 1] ? lowest[x] : lowest[x + 1];
    floor[x] = floor[x] > least ? floor[x] : least;
  }
}

// Whether the channel can reach `floor` in any cell; counts it there as a candidate.
SGMF_VECTORISED int32_t count_candidates(const float* highest, const float* floor, int64_t width,
                                         int32_t channel, int32_t* count, int32_t* candidate) {
  int32_t any = 0;
  for (int64_t x = 0; x < width; ++x) {
    const float most = highest[x] > highest[x + 1] ? highest[x] : highest[x + 1];
    const int32_t reaches = most >= floor[x];
    count[x] += reaches;
    candidate[x] = reaches ? channel : candidate[x];
    any |= reaches;
  }
  return any;
}

// One row of source columns, interpolated along depth and height.
SGMF_VECTORISED void interpolate_row(const float* a, const float* b, const float* c, const float* d,
                                     double depth_weight, double height_weight, int64_t width,
                                     double* row) {
  for (int64_t x = 0; x < width; ++x) {
    const double near = (1 - depth_weight) * a[x] + depth_weight * b[x];
    const double far = (1 - depth_weight) * c[x] + depth_weight * d[x];
    row[x] = (1 - height_weight) * near + height_weight * far;
  }
}

SGMF_VECTORISED void take_largest(const double* row, const int64_t* low, const int64_t* high,
                                  const double* weight, int64_t count, int32_t channel, float* best,
                                  int32_t* label) {
  for (int64_t i = 0; i < count; ++i) {
    const float value =
        static_cast<float>((1 - weight[i]) * row[low[i]] + weight[i] * row[high[i]]);
    label[i] = value > best[i] ? channel : label[i];
    best[i] = value > best[i] ? value : best[i];
  }
}

SGMF_VECTORISED void paint_positive(const double* row, const int64_t* low, const int64_t* high,
                                    const double* weight, int64_t count, int32_t value,
                                    int32_t* label) {
  for (int64_t i = 0; i < count; ++i) {
    const float logit =
        static_cast<float>((1 - weight[i]) * row[low[i]] + weight[i] * row[high[i]]);
    label[i] = logit > 0 ? value : label[i];
  }
}

// Labels of all target voxels whose depth and height neighbours are the same four rows.
class RowCell {
 public:
  explicit RowCell(const Args& args)
      : args_(args),
        width_(args.width),
        lowest_(width_ + 1),
        highest_((width_ + 1) * args.channels),
        floor_(width_),
        count_(width_),
        candidate_(width_),
        row_(width_),
        best_(args.taps[2].count),
        label_(args.taps[2].count),
        low_(args.taps[2].count),
        high_(args.taps[2].count),
        weight_(args.taps[2].count),
        place_(args.taps[2].count) {}

  void run(const Group& depth, const Group& height) {
    if (args_.regions) {
      for_each_row(depth, height, [&](int64_t z, int64_t y) { paint_row(depth, height, z, y); });
      return;
    }
    find_candidates(depth, height);
    gather_undecided();
    for_each_row(depth, height, [&](int64_t z, int64_t y) { decide_row(depth, height, z, y); });
  }

 private:
  const float* source(int64_t channel, int64_t z, int64_t y) const {
    return args_.lines[z * args_.height + y] + channel * args_.channel_stride;
  }

  template <typename F>
  void for_each_row(const Group& depth, const Group& height, F f) {
    for (int64_t z = depth.begin; z < depth.end; ++z) {
      for (int64_t y = height.begin; y < height.end; ++y) f(z, y);
    }
  }

  // A channel that nowhere in a cell comes up to what another reaches everywhere in it cannot
  // win there: interpolation stays between its corners, also after rounding to float32.
  void find_candidates(const Group& depth, const Group& height) {
    std::fill(floor_.begin(), floor_.end(), -std::numeric_limits<float>::infinity());
    std::fill(count_.begin(), count_.end(), 0);
    for (int64_t k = 0; k < args_.channels; ++k) {
      column_bounds(source(k, depth.low, height.low), source(k, depth.high, height.low),
                    source(k, depth.low, height.high), source(k, depth.high, height.high), width_,
                    lowest_.data(), highest_.data() + k * (width_ + 1));
      raise_floor(lowest_.data(), width_, floor_.data());
    }
    contenders_.clear();
    for (int64_t k = 0; k < args_.channels; ++k) {
      const float* highest = highest_.data() + k * (width_ + 1);
      if (count_candidates(highest, floor_.data(), width_, static_cast<int32_t>(k), count_.data(),
                           candidate_.data())) {
        contenders_.push_back(k);
      }
    }
  }

  // Collects the target columns in cells with more than one candidate.
  void gather_undecided() {
    const sgmf_axis_taps& taps = args_.taps[2];
    undecided_ = 0;
    for (int64_t x = 0; x < taps.count; ++x) {
      if (count_[taps.low[x]] == 1) continue;
      low_[undecided_] = taps.low[x];
      high_[undecided_] = taps.high[x];
      weight_[undecided_] = taps.weight[x];
      place_[undecided_++] = x;
    }
  }

  void interpolate(int64_t channel, const Group& depth, const Group& height, int64_t z, int64_t y) {
    interpolate_row(source(channel, depth.low, height.low), source(channel, depth.high, height.low),
                    source(channel, depth.low, height.high),
                    source(channel, depth.high, height.high), args_.taps[0].weight[z],
                    args_.taps[1].weight[y], width_, row_.data());
  }

  uint16_t* labels(int64_t z, int64_t y) const {
    return args_.labels + (z * args_.taps[1].count + y) * args_.taps[2].count;
  }

  void decide_row(const Group& depth, const Group& height, int64_t z, int64_t y) {
    const sgmf_axis_taps& taps = args_.taps[2];
    uint16_t* out = labels(z, y);
    for (int64_t x = 0; x < taps.count; ++x)
      out[x] = static_cast<uint16_t>(candidate_[taps.low[x]]);
    if (!undecided_) return;
    std::fill_n(best_.begin(), undecided_, -std::numeric_limits<float>::infinity());
    std::fill_n(label_.begin(), undecided_, 0);
    for (const int64_t channel : contenders_) {
      interpolate(channel, depth, height, z, y);
      take_largest(row_.data(), low_.data(), high_.data(), weight_.data(), undecided_,
                   static_cast<int32_t>(channel), best_.data(), label_.data());
    }
    for (int64_t i = 0; i < undecided_; ++i) out[place_[i]] = static_cast<uint16_t>(label_[i]);
  }

  void paint_row(const Group& depth, const Group& height, int64_t z, int64_t y) {
    const sgmf_axis_taps& taps = args_.taps[2];
    std::fill(label_.begin(), label_.end(), 0);
    for (int64_t channel = 0; channel < args_.channels; ++channel) {
      interpolate(channel, depth, height, z, y);
      paint_positive(row_.data(), taps.low, taps.high, taps.weight, taps.count,
                     args_.regions[channel], label_.data());
    }
    std::copy(label_.begin(), label_.end(), labels(z, y));
  }

  const Args& args_;
  const int64_t width_;
  std::vector<float> lowest_, highest_, floor_;
  std::vector<int32_t> count_, candidate_;
  std::vector<double> row_;
  std::vector<float> best_;
  std::vector<int32_t> label_;
  std::vector<int64_t> low_, high_;
  std::vector<double> weight_;
  std::vector<int64_t> place_;
  std::vector<int64_t> contenders_;
  int64_t undecided_ = 0;
};

const char* check(const Args& args) {
  if (args.channels < 1 || args.channels > 65535)
    return "the number of channels must lie between 1 and 65,535";
  if (args.depth < 1 || args.height < 1 || args.width < 1)
    return "the logits' extent must be positive";
  for (const sgmf_axis_taps& taps : args.taps) {
    if (taps.count < 0) return "a number of taps is negative";
    if (taps.count && !(taps.low && taps.high && taps.weight)) return "taps may not be NULL";
  }
  const int64_t extents[] = {args.depth, args.height, args.width};
  for (int axis = 0; axis < 3; ++axis) {
    const sgmf_axis_taps& taps = args.taps[axis];
    const int64_t extent = extents[axis];
    for (int64_t i = 0; i < taps.count; ++i) {
      if (taps.low[i] < 0 || taps.high[i] < taps.low[i] || taps.high[i] >= extent)
        return "a tap lies outside the logits";
    }
  }
  if (!args.lines || !args.labels) return "lines and labels may not be NULL";
  return nullptr;
}

void label_resample(const Args& args, int threads) {
  const std::vector<Group> depths = groups(args.taps[0]);
  const std::vector<Group> heights = groups(args.taps[1]);
  const std::size_t tasks =
      std::max<std::size_t>(1, std::min<std::size_t>(heights.size(), 4 * threads));
  own_threads(threads)(tasks, [&](std::size_t task) {
    RowCell cell(args);
    const std::size_t begin = heights.size() * task / tasks;
    const std::size_t end = heights.size() * (task + 1) / tasks;
    for (const Group& depth : depths) {
      for (std::size_t i = begin; i < end; ++i) cell.run(depth, heights[i]);
    }
  });
}

}  // namespace
}  // namespace sgmf

extern "C" const char* sgmf_label_resample(const sgmf_label_resample_args* args, int32_t threads) {
  if (!args) return "args may not be NULL";
  if (const char* error = sgmf::check(*args)) return error;
  try {
    const int64_t voxels = args->taps[0].count * args->taps[1].count * args->taps[2].count;
    sgmf::label_resample(*args, sgmf::worthwhile_threads(threads, args->channels * voxels));
  } catch (...) {
    return sgmf::out_of_memory;
  }
  return nullptr;
}
