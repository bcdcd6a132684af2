#include "pipeline/labels/label_masks.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/parallel.h"
#include "pipeline/sampling/resample.h"

namespace sgmf {
namespace {

constexpr float beyond = -1;

// A voxel of the target between two of the source along an axis, and the nearest of these. The
// weights are as scipy.ndimage computes them, whose results decide ties.
struct Tap {
  int64_t low;
  int64_t high;
  double near;
  double far;
  bool nearest_is_high;
};

std::vector<Tap> taps_of(int64_t length, int64_t new_length, int order) {
  const double step = static_cast<double>(length) / static_cast<double>(new_length);
  std::vector<Tap> taps;
  for (int64_t i = 0; i < new_length; ++i) {
    const double place = (static_cast<double>(i) + 0.5) * step - 0.5;
    const double centre = std::clamp(place, 0.0, static_cast<double>(length - 1));
    const auto nearest = static_cast<int64_t>(std::floor(centre + 0.5));
    const auto low = order > 0 ? static_cast<int64_t>(std::floor(centre)) : nearest;
    const double near = order > 0 ? 1 - (centre - static_cast<double>(low)) : 1;
    taps.push_back({low, std::min(low + 1, length - 1), near, 1 - near, nearest != low});
  }
  return taps;
}

using GridOfTaps = std::array<std::vector<Tap>, 3>;

GridOfTaps taps_of(const NetworkGrid& grid, const Resampling& resampling) {
  const auto separate = separate_axis(grid.scan_spacing_mm, grid.spacing_mm, resampling);
  GridOfTaps taps;
  for (int axis = 0; axis < 3; ++axis) {
    const int order = separate == axis ? resampling.order_z : resampling.order;
    taps[axis] = taps_of(grid.cropped_shape()[axis], grid.shape[axis], order);
  }
  return taps;
}

// Labels around a voxel of the target, and the weight of each.
struct Corners {
  std::array<float, 8> labels;
  std::array<double, 8> weights;
  float nearest;

  double value(float label) const {
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += labels[i] == label ? weights[i] : 0;
    return sum;
  }

  float largest() const {
    if (std::all_of(labels.begin(), labels.end(), [&](float l) { return l == labels[0]; })) {
      return labels[0];
    }
    float chosen = nearest;
    double best = value(nearest);
    for (const float label : labels) {
      const double own = value(label);
      const bool smaller_of_equals = own == best && chosen != nearest && label < chosen;
      if (own > best || smaller_of_equals) {
        chosen = label;
        best = own;
      }
    }
    return chosen;
  }
};

class LabelPlanes {
 public:
  LabelPlanes(const ChannelView& labels, const std::vector<uint8_t>& inside)
      : labels_(labels),
        inside_(inside),
        size_(labels.shape[1] * labels.shape[2]) {}

  std::vector<float> read(int64_t z) const {
    std::vector<float> plane(static_cast<std::size_t>(size_));
    labels_.read({Range{z, z + 1}, {0, labels_.shape[1]}, {0, labels_.shape[2]}}, plane.data());
    const uint8_t* inside = inside_.data() + z * size_;
    for (int64_t i = 0; i < size_; ++i) {
      if (plane[i] == 0 && !inside[i]) plane[i] = beyond;
    }
    return plane;
  }

 private:
  const ChannelView& labels_;
  const std::vector<uint8_t>& inside_;
  const int64_t size_;
};

// Calls take(x, label) for each voxel of a row of the target. `rows` are those of the source at
// (low, low), (low, high), (high, low) and (high, high) of depth and height.
template <typename F>
void label_row(const std::array<const float*, 4>& rows, const Tap& depth, const Tap& height,
               const std::vector<Tap>& width, F take) {
  const std::array<double, 4> across{depth.near * height.near, depth.near * height.far,
                                     depth.far * height.near, depth.far * height.far};
  const float* nearest = rows[2 * depth.nearest_is_high + height.nearest_is_high];
  for (std::size_t x = 0; x < width.size(); ++x) {
    const Tap& tap = width[x];
    Corners corners;
    for (int i = 0; i < 4; ++i) {
      corners.labels[2 * i] = rows[i][tap.low];
      corners.labels[2 * i + 1] = rows[i][tap.high];
      corners.weights[2 * i] = across[i] * tap.near;
      corners.weights[2 * i + 1] = across[i] * tap.far;
    }
    corners.nearest = nearest[tap.nearest_is_high ? tap.high : tap.low];
    take(x, corners.largest());
  }
}

}  // namespace

void fill_masks(const ChannelView& labels, const std::vector<uint8_t>& inside,
                const NetworkGrid& grid, const PreviousStage& stage, int threads, float* masks) {
  const GridOfTaps taps = taps_of(grid, stage.resampling);
  const LabelPlanes planes(labels, inside);
  const int64_t voxels = voxel_count(grid.shape);
  std::fill_n(masks, voxels * static_cast<int64_t>(stage.labels.size()), 0.0f);
  own_threads(threads)(static_cast<std::size_t>(grid.shape[0]), [&](std::size_t z) {
    const Tap& depth = taps[0][z];
    const std::vector<float> low = planes.read(depth.low);
    const std::vector<float> high = planes.read(depth.high);
    for (int64_t y = 0; y < grid.shape[1]; ++y) {
      const Tap& height = taps[1][y];
      const int64_t first = height.low * labels.shape[2];
      const int64_t second = height.high * labels.shape[2];
      float* row = masks + (static_cast<int64_t>(z) * grid.shape[1] + y) * grid.shape[2];
      label_row(
          {low.data() + first, low.data() + second, high.data() + first, high.data() + second},
          depth, height, taps[2], [&](std::size_t x, float label) {
            const auto found = std::find(stage.labels.begin(), stage.labels.end(), label);
            if (found == stage.labels.end()) return;
            row[(found - stage.labels.begin()) * voxels + static_cast<int64_t>(x)] = 1;
          });
    }
  });
}

}  // namespace sgmf
