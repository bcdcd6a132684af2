#include "pipeline/sampling/axis_taps.h"

#include <algorithm>

#include "pipeline/sampling/axis_operator.h"
#include "pipeline/sampling/resample.h"

namespace sgmf {
namespace {

AxisTaps identity(int64_t length) {
  AxisTaps taps;
  for (int64_t i = 0; i < length; ++i) {
    taps.low.push_back(i);
    taps.high.push_back(i);
    taps.weight.push_back(0);
  }
  return taps;
}

bool has_two_taps(const AxisOperator& by) {
  for (int64_t i = 0; i < by.count(); ++i) {
    if (by.starts[i + 1] - by.starts[i] > 2) return false;
  }
  return true;
}

AxisTaps axis_taps(const AxisOperator& by) {
  AxisTaps taps;
  for (int64_t i = 0; i < by.count(); ++i) {
    const int64_t first = by.starts[i], last = by.starts[i + 1] - 1;
    taps.low.push_back(by.columns[first]);
    taps.high.push_back(by.columns[last]);
    taps.weight.push_back(last > first ? by.weights[last] : 0);
  }
  return taps;
}

}  // namespace

AxisTaps AxisTaps::part(const Range& voxels, int64_t origin) const {
  AxisTaps taps;
  for (int64_t i = voxels.begin; i < voxels.end; ++i) {
    taps.low.push_back(low[i] - origin);
    taps.high.push_back(high[i] - origin);
    taps.weight.push_back(weight[i]);
  }
  return taps;
}

bool AxisTaps::on_grid() const {
  for (int64_t i = 0; i < count(); ++i) {
    if (low[i] != low.front() + i || high[i] != low[i]) return false;
  }
  return true;
}

Range AxisTaps::reaching(const Range& source) const {
  const auto place = [&](int64_t voxel) {
    return std::lower_bound(high.begin(), high.end(), voxel) - high.begin();
  };
  return {place(source.begin), place(source.end)};
}

std::optional<GridTaps> grid_taps(const Triple& shape, const Triple& new_shape,
                                  const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                                  const Resampling& resampling) {
  const std::optional<int> separate = separate_axis(spacing_mm, new_spacing_mm, resampling);
  GridTaps taps;
  for (int axis = 0; axis < 3; ++axis) {
    const int order = separate == axis ? resampling.order_z : resampling.order;
    if (shape[axis] != new_shape[axis] && order > 1) return std::nullopt;
    const auto by =
        axis_resize(axis, shape, new_shape, spacing_mm, new_spacing_mm, resampling, order);
    if (by && !has_two_taps(*by)) return std::nullopt;
    taps[axis] = by ? axis_taps(*by) : identity(shape[axis]);
  }
  return taps;
}

}  // namespace sgmf
