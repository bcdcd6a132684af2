#include "pipeline/sampling/resample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/interface/axis_resample.h"
#include "kernels/parallel.h"
#include "pipeline/error.h"
#include "pipeline/pages.h"
#include "python/kernel_call.h"

namespace sgmf {
namespace {

constexpr int64_t part_voxels = int64_t{1} << 21;
// Spacings that differ by less are the same: headers store them as float32.
constexpr double spacing_tolerance = 1e-6;
// Voxels along an axis that are no mistake.
constexpr double most_extent = 1e6;

std::optional<int> coarsest_axis(const Spacing& spacing_mm) {
  const double largest = *std::max_element(spacing_mm.begin(), spacing_mm.end());
  std::optional<int> found;
  for (int axis = 0; axis < 3; ++axis) {
    if (!(spacing_mm[axis] > largest * (1 - spacing_tolerance))) continue;
    if (found) return std::nullopt;
    found = axis;
  }
  return found;
}

double anisotropy(const Spacing& spacing_mm) {
  return *std::max_element(spacing_mm.begin(), spacing_mm.end()) /
         *std::min_element(spacing_mm.begin(), spacing_mm.end());
}

double half_to_even(double number) {
  const double floor = std::floor(number);
  const double rest = number - floor;
  if (rest != 0.5) return rest < 0.5 ? floor : floor + 1;
  return std::fmod(floor, 2) == 0 ? floor : floor + 1;
}

// Applies an operator along the middle axis of a dense array (outer, length, inner).
template <typename S, typename T>
void apply(const AxisOperator& by, int64_t outer, int64_t inner, const S* source, T* target,
           const double* low, const double* high, int threads) {
  sgmf_axis_resample_args args{};
  args.source_is_double = std::is_same_v<S, double>;
  args.target_is_double = std::is_same_v<T, double>;
  args.outer = outer;
  args.length = by.length;
  args.count = by.count();
  args.inner = inner;
  args.source = source;
  args.target = target;
  args.starts = by.starts.data();
  args.columns = by.columns.data();
  args.weights = by.weights.data();
  args.low = low;
  args.high = high;
  expect_success(sgmf_axis_resample(&args, threads));
}

}  // namespace

int64_t rounded_extent(double voxels) {
  const double rounded = half_to_even(voxels);
  if (!(rounded < most_extent)) {
    throw Error(ErrorCode::geometry,
                "resampled, the scan would have over a million voxels along an axis; check its "
                "spacing");
  }
  return std::max<int64_t>(1, static_cast<int64_t>(rounded));
}

Triple target_shape(const Triple& shape, const Spacing& spacing_mm, const Spacing& new_spacing_mm) {
  Triple result;
  for (int axis = 0; axis < 3; ++axis) {
    result[axis] =
        rounded_extent(spacing_mm[axis] / new_spacing_mm[axis] * static_cast<double>(shape[axis]));
  }
  return result;
}

std::optional<AxisOperator> axis_resize(int axis, const Triple& shape, const Triple& new_shape,
                                        const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                                        const Resampling& resampling, int order) {
  const bool centres = resampling.alignment == Alignment::centres;
  if (centres || resampling.alignment == Alignment::first_voxels) {
    if (shape[axis] == new_shape[axis] && spacing_mm[axis] == new_spacing_mm[axis]) return {};
    const double step = new_spacing_mm[axis] / spacing_mm[axis];
    const double first = centres ? static_cast<double>(shape[axis]) / 2 -
                                       step * static_cast<double>(new_shape[axis]) / 2
                                 : 0;
    return spaced_operator(shape[axis], new_shape[axis], first, step, order);
  }
  if (shape[axis] == new_shape[axis]) return {};
  return resize_operator(shape[axis], new_shape[axis], order, resampling.method,
                         resampling.alignment);
}

std::optional<int> separate_axis(const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                                 const Resampling& resampling) {
  if (resampling.separate_z) {
    return *resampling.separate_z ? coarsest_axis(spacing_mm) : std::nullopt;
  }
  for (const Spacing& spacing : {spacing_mm, new_spacing_mm}) {
    if (anisotropy(spacing) > resampling.anisotropy_threshold) return coarsest_axis(spacing);
  }
  return std::nullopt;
}

ReadBox array_reader(const float* values, const Triple& shape) {
  return [values, shape](const Box& box, float* out) {
    for (int64_t z = box[0].begin; z < box[0].end; ++z) {
      for (int64_t y = box[1].begin; y < box[1].end; ++y) {
        out =
            std::copy_n(values + (z * shape[1] + y) * shape[2] + box[2].begin, box[2].size(), out);
      }
    }
  };
}

// Least and largest values, or none.
struct ChannelResize::Bounds {
  std::vector<double> low;
  std::vector<double> high;

  const double* lows() const { return low.empty() ? nullptr : low.data(); }
  const double* highs() const { return high.empty() ? nullptr : high.data(); }
};

ChannelResize::ChannelResize(const Triple& shape, const Triple& new_shape,
                             const Spacing& spacing_mm, const Spacing& new_spacing_mm,
                             const Resampling& resampling, int threads)
    : shape_(shape),
      new_shape_(new_shape),
      separate_(separate_axis(spacing_mm, new_spacing_mm, resampling)),
      outer_(separate_.value_or(0)),
      inner_{outer_ == 0 ? 1 : 0, outer_ == 2 ? 1 : 2},
      threads_(threads) {
  for (int axis = 0; axis < 3; ++axis) {
    const int order = separate_ == axis ? resampling.order_z : resampling.order;
    operators_[axis] =
        axis_resize(axis, shape, new_shape, spacing_mm, new_spacing_mm, resampling, order);
  }
}

bool ChannelResize::overshoots() const {
  return std::any_of(operators_.begin(), operators_.end(),
                     [](const auto& by) { return by && by->overshoots(); });
}

// Source plane i is kept at i modulo `kept`, resized along its own axes, in double. No part wraps
// around: `kept` is a multiple of its length or every plane.
void ChannelResize::run(const ReadBox& source, float* target) const {
  if (std::none_of(operators_.begin(), operators_.end(), [](const auto& by) { return !!by; })) {
    return read_all(source, target);
  }
  const int64_t length = shape_[outer_];
  const AxisOperator across = operators_[outer_].value_or(AxisOperator::identity(length));
  const int64_t plane = shape_[inner_[0]] * shape_[inner_[1]];
  const int64_t new_plane = new_shape_[inner_[0]] * new_shape_[inner_[1]];
  const int64_t step = std::max<int64_t>(1, part_voxels / std::max(plane, new_plane));
  const int64_t reach = across.reach();
  const int64_t kept = std::min(length, step * (1 + (reach - 1 + step - 1) / step));
  const auto ring = pages_for<double>(kept * new_plane);
  const auto planes = pages_for<float>(std::min(step, length) * plane);
  const std::vector<int64_t> needed = across.needed();
  const Bounds bounds = channel_bounds(source, step);
  int64_t done = 0;
  for (int64_t begin = 0; begin < length; begin += step) {
    const int64_t end = std::min(begin + step, length);
    read(source, {begin, end}, planes.get());
    resize_planes(planes.get(), end - begin, ring.get() + begin % kept * new_plane);
    const int64_t ready = std::upper_bound(needed.begin(), needed.end(), end) - needed.begin();
    if (ready > done) {
      resize_across(ring.get(), kept, {done, ready}, across, bounds, target);
      done = ready;
    }
  }
}

// The channel as it is.
void ChannelResize::read_all(const ReadBox& source, float* target) const {
  const int64_t plane = shape_[1] * shape_[2];
  const std::size_t tasks = static_cast<std::size_t>(std::min<int64_t>(shape_[0], 4 * threads_));
  own_threads(worthwhile_threads(threads_, shape_[0] * plane))(tasks, [&](std::size_t task) {
    const int64_t begin = shape_[0] * static_cast<int64_t>(task) / static_cast<int64_t>(tasks);
    const int64_t end = shape_[0] * (static_cast<int64_t>(task) + 1) / static_cast<int64_t>(tasks);
    Box box = whole(shape_);
    box[0] = {begin, end};
    source(box, target + begin * plane);
  });
}

// Planes across the outer axis, C order.
void ChannelResize::read(const ReadBox& source, const Range& part, float* planes) const {
  const int64_t count = part.size(), plane = shape_[inner_[0]] * shape_[inner_[1]];
  const std::size_t tasks = static_cast<std::size_t>(std::min<int64_t>(count, 2 * threads_));
  own_threads(worthwhile_threads(threads_, count * plane))(tasks, [&](std::size_t task) {
    const int64_t begin = count * static_cast<int64_t>(task) / static_cast<int64_t>(tasks);
    const int64_t end = count * (static_cast<int64_t>(task) + 1) / static_cast<int64_t>(tasks);
    Box box = whole(shape_);
    box[outer_] = {part.begin + begin, part.begin + end};
    if (outer_ == 0) return source(box, planes + begin * plane);
    const auto voxels = pages_for<float>((end - begin) * plane);
    source(box, voxels.get());
    // (a, n, b) or (a, b, n) to (n, a, b).
    const int64_t n = end - begin, a = shape_[inner_[0]], b = shape_[inner_[1]];
    const int64_t along = outer_ == 1 ? b : 1, step_a = n * b, step_b = outer_ == 1 ? 1 : n;
    float* out = planes + begin * plane;
    for (int64_t k = 0; k < n; ++k) {
      for (int64_t i = 0; i < a; ++i) {
        const float* row = voxels.get() + k * along + i * step_a;
        for (int64_t j = 0; j < b; ++j) *out++ = row[j * step_b];
      }
    }
  });
}

// Range of the whole channel, where all axes go together and splines overshoot.
ChannelResize::Bounds ChannelResize::channel_bounds(const ReadBox& source, int64_t step) const {
  if (separate_ || !overshoots()) return {};
  const int64_t plane = shape_[1] * shape_[2];
  const auto planes = pages_for<float>(std::min(step, shape_[0]) * plane);
  float low = std::numeric_limits<float>::infinity(), high = -low;
  for (int64_t begin = 0; begin < shape_[0]; begin += step) {
    const int64_t end = std::min(begin + step, shape_[0]);
    read(source, {begin, end}, planes.get());
    const auto [least, most] =
        std::minmax_element(planes.get(), planes.get() + (end - begin) * plane);
    low = std::min(low, *least);
    high = std::max(high, *most);
  }
  return {{low}, {high}};
}

// Planes (n, a, b) along their own axes: shrinking before growing, and what is contiguous first.
void ChannelResize::resize_planes(const float* planes, int64_t count, double* target) const {
  const int64_t a = shape_[inner_[0]], b = shape_[inner_[1]];
  const int64_t new_a = new_shape_[inner_[0]], new_b = new_shape_[inner_[1]];
  const auto& along_a = operators_[inner_[0]];
  const auto& along_b = operators_[inner_[1]];
  if (!along_a && !along_b) {
    std::copy_n(planes, count * a * b, target);
    return;
  }
  const bool a_last = !along_b || (along_a && (new_a > a || new_b <= b));
  const auto bounds = [&](int64_t rows) {
    Bounds found;
    if (!separate_ || !overshoots()) return found;
    for (int64_t i = 0; i < count; ++i) {
      const auto [low, high] = std::minmax_element(planes + i * a * b, planes + (i + 1) * a * b);
      found.low.insert(found.low.end(), static_cast<std::size_t>(rows), *low);
      found.high.insert(found.high.end(), static_cast<std::size_t>(rows), *high);
    }
    return found;
  };
  if (a_last) {
    const Bounds limits = bounds(1);
    if (!along_b) {
      apply(*along_a, count, b, planes, target, limits.lows(), limits.highs(), threads_);
      return;
    }
    const auto between = pages_for<double>(count * a * new_b);
    apply(*along_b, count * a, 1, planes, between.get(), nullptr, nullptr, threads_);
    apply(*along_a, count, new_b, between.get(), target, limits.lows(), limits.highs(), threads_);
    return;
  }
  const Bounds limits = bounds(new_a);
  if (!along_a) {
    apply(*along_b, count * a, 1, planes, target, limits.lows(), limits.highs(), threads_);
    return;
  }
  const auto between = pages_for<double>(count * new_a * b);
  apply(*along_a, count, b, planes, between.get(), nullptr, nullptr, threads_);
  apply(*along_b, count * new_a, 1, between.get(), target, limits.lows(), limits.highs(), threads_);
}

// Fills results of `target` from the planes that are kept.
void ChannelResize::resize_across(const double* ring, int64_t kept, const Range& results,
                                  const AxisOperator& across, const Bounds& bounds,
                                  float* target) const {
  const int64_t a = new_shape_[inner_[0]], b = new_shape_[inner_[1]];
  const AxisOperator part = across.part(results.begin, results.end, kept);
  if (outer_ == 0) {
    apply(part, 1, a * b, ring, target + results.begin * a * b, bounds.lows(), bounds.highs(),
          threads_);
    return;
  }
  const int64_t n = results.size();
  const auto planes = pages_for<float>(n * a * b);
  apply(part, 1, a * b, ring, planes.get(), bounds.lows(), bounds.highs(), threads_);
  const int64_t count = new_shape_[outer_];
  own_threads(worthwhile_threads(threads_, n * a * b))(
      static_cast<std::size_t>(a), [&](std::size_t row) {
        const int64_t i = static_cast<int64_t>(row);
        for (int64_t k = 0; k < n; ++k) {
          const float* from = planes.get() + (k * a + i) * b;
          const int64_t z = results.begin + k;
          for (int64_t j = 0; j < b; ++j) {
            target[outer_ == 1 ? (i * count + z) * b + j : (i * b + j) * count + z] = from[j];
          }
        }
      });
}

}  // namespace sgmf
