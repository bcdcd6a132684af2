#include "kernels/interface/distance_map.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/parallel.h"

namespace sgmf {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

// Lowers squared distances along one line to what a way along it gives: the lower envelope of
// parabolas, as in Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions"
// (Theory of Computing 8, 2012).
class Line {
 public:
  Line(int64_t count, double spacing)
      : count_(count),
        spacing_(spacing),
        squared_(count),
        vertex_(count),
        begin_(count) {}

  void lower(double* values, int64_t stride) {
    for (int64_t i = 0; i < count_; ++i) squared_[i] = values[i * stride];
    find_envelope();
    if (pieces_ == 0) return;
    for (int64_t i = 0, piece = 0; i < count_; ++i) {
      while (piece + 1 < pieces_ && begin_[piece + 1] < static_cast<double>(i)) ++piece;
      const double step = static_cast<double>(vertex_[piece] - i) * spacing_;
      values[i * stride] = squared_[vertex_[piece]] + step * step;
    }
  }

 private:
  void find_envelope() {
    pieces_ = 0;
    for (int64_t i = 0; i < count_; ++i) {
      if (squared_[i] == infinite) continue;
      double begin = -infinite;
      while (pieces_ > 0 && (begin = meeting(vertex_[pieces_ - 1], i)) <= begin_[pieces_ - 1]) {
        --pieces_;
      }
      vertex_[pieces_] = i;
      begin_[pieces_] = pieces_ > 0 ? begin : -infinite;
      ++pieces_;
    }
  }

  // Where the parabolas of two voxels, a before b, meet.
  double meeting(int64_t a, int64_t b) const {
    const double lift = (squared_[b] - squared_[a]) / (spacing_ * spacing_);
    return (lift / static_cast<double>(b - a) + static_cast<double>(a + b)) / 2;
  }

  int64_t count_;
  double spacing_;
  std::vector<double> squared_;
  std::vector<int64_t> vertex_;  // of each piece of the envelope
  std::vector<double> begin_;    // and where the piece begins
  int64_t pieces_ = 0;
};

void lower_along(int axis, const int64_t extent[3], double spacing, double* values) {
  Line line(extent[axis], spacing);
  const int64_t stride = axis == 0 ? extent[1] * extent[2] : axis == 1 ? extent[2] : 1;
  const int64_t outer = axis == 0 ? 1 : axis == 1 ? extent[0] : extent[0] * extent[1];
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t j = 0; j < stride; ++j) line.lower(values + i * stride * extent[axis] + j, stride);
  }
}

}  // namespace
}  // namespace sgmf

extern "C" const char* sgmf_distance_map(const uint8_t* marked, const int64_t extent[3],
                                         const double spacing[3], double* distance) {
  if (!marked || !extent || !spacing || !distance) return "a pointer is NULL";
  if (std::min({extent[0], extent[1], extent[2]}) < 1) return "an extent is below 1";
  for (int axis = 0; axis < 3; ++axis) {
    if (!(spacing[axis] > 0 && std::isfinite(spacing[axis]))) return "a spacing is not above 0";
  }
  const int64_t count = extent[0] * extent[1] * extent[2];
  std::transform(marked, marked + count, distance,
                 [](uint8_t voxel) { return voxel ? 0 : sgmf::infinite; });
  try {
    for (int axis = 0; axis < 3; ++axis) {
      sgmf::lower_along(axis, extent, spacing[axis], distance);
    }
  } catch (...) {
    return sgmf::out_of_memory;
  }
  std::transform(distance, distance + count, distance, [](double d) { return std::sqrt(d); });
  return nullptr;
}
