#include "pipeline/sampling/axis_operator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>

#include "pipeline/error.h"

namespace sgmf {
namespace {

// The influence of a voxel on a spline fades by a factor of about four with each voxel of distance
// and never ends. What is left out here lies far below float32's resolution.
constexpr double least_weight = 1e-12;
// Edge voxels are repeated this often before the spline's coefficients are computed, after which
// what lies beyond does not show: 0.43^12 is 4e-5 of what itself has faded by then.
constexpr int64_t padding = 12;
constexpr int most_taps = 6;

double new_centre(int64_t index, int64_t length, int64_t new_length) {
  return (static_cast<double>(index) + 0.5) *
             (static_cast<double>(length) / static_cast<double>(new_length)) -
         0.5;
}

// Poles of the filter from samples to the coefficients of a spline. Source: M. Unser, "Splines: a
// perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6), 22-38
// (1999), whose direct B-spline filters these are the roots of.
std::vector<double> poles(int order) {
  switch (order) {
    case 2: return {std::sqrt(8.0) - 3.0};
    case 3: return {std::sqrt(3.0) - 2.0};
    case 4:
      return {std::sqrt(664.0 - std::sqrt(438976.0)) + std::sqrt(304.0) - 19.0,
              std::sqrt(664.0 + std::sqrt(438976.0)) - std::sqrt(304.0) - 19.0};
    case 5:
      return {std::sqrt(67.5 - std::sqrt(4436.25)) + std::sqrt(26.25) - 6.5,
              std::sqrt(67.5 + std::sqrt(4436.25)) - std::sqrt(26.25) - 6.5};
    default: return {};
  }
}

// One causal and one anticausal pass for a pole, of a signal that is mirrored at both ends.
void filter(double pole, std::vector<double>& signal) {
  const std::size_t n = signal.size();
  // Mirrored at both ends a signal has the period 2n - 2; the past is a geometric sum over it.
  const double period = std::pow(pole, static_cast<double>(2 * n - 2));
  double power = pole,
         past = signal[0] + std::pow(pole, static_cast<double>(n - 1)) * signal[n - 1];
  for (std::size_t i = 1; i < n - 1 && std::abs(power) > 1e-40; ++i, power *= pole) {
    past += (power + period / power) * signal[i];
  }
  signal[0] = past / (1 - period);
  for (std::size_t i = 1; i < n; ++i) signal[i] += pole * signal[i - 1];
  signal[n - 1] = pole / (pole * pole - 1) * (signal[n - 1] + pole * signal[n - 2]);
  for (std::size_t i = n - 1; i-- > 0;) signal[i] = pole * (signal[i + 1] - signal[i]);
  const double gain = (1 - pole) * (1 - 1 / pole);
  for (double& value : signal) value *= gain;
}

// The B-splines of an order that reach a position, from the recursion of Cox and de Boor; `first`
// is the index of the lowest.
std::array<double, most_taps> basis(double position, int order, int64_t* first) {
  const double lowest = std::floor(order % 2 ? position : position + 0.5);
  *first = static_cast<int64_t>(lowest) - order / 2;
  // Distance from the knot below; knots are one apart.
  const double x = order % 2 ? position - lowest : position - lowest + 0.5;
  std::array<double, most_taps> values{1};
  for (int degree = 1; degree <= order; ++degree) {
    double carried = 0;
    for (int i = 0; i < degree; ++i) {
      const double share = values[i] / degree;
      const double from_left = x + degree - 1 - i;
      values[i] = carried + share * (degree - from_left);
      carried = share * from_left;
    }
    values[degree] = carried;
  }
  return values;
}

struct Positions {
  std::vector<int64_t> first;
  std::vector<std::array<double, most_taps>> values;
};

Positions positions(int64_t length, int64_t new_length, int order) {
  Positions found;
  for (int64_t i = 0; i < new_length; ++i) {
    int64_t first = 0;
    found.values.push_back(
        basis(new_centre(i, length, new_length) + static_cast<double>(padding), order, &first));
    found.first.push_back(first);
  }
  return found;
}

// Coefficients of the spline through a voxel of 1 among zeros, its edges repeated.
std::vector<double> impulse_coefficients(int64_t voxel, int64_t length, int order) {
  std::vector<double> signal(static_cast<std::size_t>(length + 2 * padding));
  const int64_t begin = voxel == 0 ? 0 : voxel + padding;
  const int64_t end = voxel == length - 1 ? length + 2 * padding : voxel + padding + 1;
  std::fill(signal.begin() + begin, signal.begin() + end, 1.0);
  for (const double pole : poles(order)) filter(pole, signal);
  return signal;
}

AxisOperator spline_operator(int64_t length, int64_t new_length, int order) {
  const Positions at = positions(length, new_length, order);
  std::vector<std::vector<std::pair<int64_t, double>>> rows(static_cast<std::size_t>(new_length));
  for (int64_t voxel = 0; voxel < length; ++voxel) {
    const std::vector<double> coefficients = impulse_coefficients(voxel, length, order);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      double weight = 0;
      for (int tap = 0; tap <= order; ++tap) {
        weight += at.values[i][tap] * coefficients[at.first[i] + tap];
      }
      if (std::abs(weight) >= least_weight) rows[i].emplace_back(voxel, weight);
    }
  }
  AxisOperator result{length, {0}, {}, {}};
  for (const auto& row : rows) {
    for (const auto& [column, weight] : row) {
      result.columns.push_back(column);
      result.weights.push_back(weight);
    }
    result.starts.push_back(static_cast<int64_t>(result.columns.size()));
  }
  return result;
}

// Places of new voxels between the old, no further out than the last ones' centres.
using Centre = double (*)(int64_t index, int64_t length, int64_t new_length);

double inside(double centre, int64_t length) {
  return std::min(std::max(centre, 0.0), static_cast<double>(length - 1));
}

double nearest_centre(int64_t index, int64_t length, int64_t new_length) {
  return inside(static_cast<double>(length) / static_cast<double>(new_length) *
                        (static_cast<double>(index) + 0.5) -
                    0.5,
                length);
}

double float32_centre(int64_t index, int64_t length, int64_t new_length) {
  const float scale = static_cast<float>(length) / static_cast<float>(new_length);
  return inside(scale * (static_cast<float>(index) + 0.5f) - 0.5f, length);
}

double float32_end(int64_t index, int64_t length, int64_t new_length) {
  if (new_length == 1) return 0;
  const float scale = static_cast<float>(length - 1) / static_cast<float>(new_length - 1);
  return inside(scale * static_cast<float>(index), length);
}

int64_t float32_floor(int64_t index, int64_t length, int64_t new_length) {
  const float scale = static_cast<float>(length) / static_cast<float>(new_length);
  return std::min(static_cast<int64_t>(scale * static_cast<float>(index)), length - 1);
}

AxisOperator floor_operator(int64_t length, int64_t new_length) {
  AxisOperator result{length, {0}, {}, {}};
  for (int64_t i = 0; i < new_length; ++i) {
    result.columns.push_back(float32_floor(i, length, new_length));
    result.weights.push_back(1);
    result.starts.push_back(i + 1);
  }
  return result;
}

// Means of the voxels that each new one meets, be it in part.
AxisOperator area_operator(int64_t length, int64_t new_length) {
  AxisOperator result{length, {0}, {}, {}};
  for (int64_t i = 0; i < new_length; ++i) {
    const int64_t begin = i * length / new_length;
    const int64_t end = ((i + 1) * length + new_length - 1) / new_length;
    for (int64_t column = begin; column < end; ++column) {
      result.columns.push_back(column);
      result.weights.push_back(1 / static_cast<double>(end - begin));
    }
    result.starts.push_back(static_cast<int64_t>(result.columns.size()));
  }
  return result;
}

AxisOperator nearest_operator(int64_t length, int64_t new_length, Centre centre_of) {
  AxisOperator result{length, {0}, {}, {}};
  for (int64_t i = 0; i < new_length; ++i) {
    const double centre = centre_of(i, length, new_length);
    result.columns.push_back(static_cast<int64_t>(std::floor(centre + 0.5)));
    result.weights.push_back(1);
    result.starts.push_back(i + 1);
  }
  return result;
}

// Linear between the two voxels around each place.
AxisOperator linear_operator(int64_t length, int64_t new_length,
                             const std::function<double(int64_t)>& place) {
  AxisOperator result{length, {0}, {}, {}};
  const auto put = [&](int64_t column, double weight) {
    if (std::abs(weight) < least_weight) return;
    result.columns.push_back(column);
    result.weights.push_back(weight);
  };
  for (int64_t i = 0; i < new_length; ++i) {
    const double centre = std::min(std::max(place(i), 0.0), static_cast<double>(length - 1));
    const int64_t low = static_cast<int64_t>(std::floor(centre));
    const double near = 1 - (centre - static_cast<double>(low));
    put(low, near);
    if (low + 1 < length) put(low + 1, 1 - near);
    result.starts.push_back(static_cast<int64_t>(result.columns.size()));
  }
  return result;
}

}  // namespace

AxisOperator AxisOperator::identity(int64_t length) {
  AxisOperator result{length, {0}, {}, {}};
  for (int64_t i = 0; i < length; ++i) {
    result.columns.push_back(i);
    result.weights.push_back(1);
    result.starts.push_back(i + 1);
  }
  return result;
}

std::vector<int64_t> AxisOperator::needed() const {
  std::vector<int64_t> found;
  int64_t most = 0;
  for (int64_t i = 0; i < count(); ++i) {
    for (int64_t tap = starts[i]; tap < starts[i + 1]; ++tap) {
      most = std::max(most, columns[tap] + 1);
    }
    found.push_back(most);
  }
  return found;
}

int64_t AxisOperator::reach() const {
  const std::vector<int64_t> until = needed();
  int64_t kept_from = length, reach = 0;
  for (int64_t i = count() - 1; i >= 0; --i) {
    for (int64_t tap = starts[i]; tap < starts[i + 1]; ++tap) {
      kept_from = std::min(kept_from, columns[tap]);
    }
    reach = std::max(reach, until[i] - kept_from);
  }
  return reach;
}

bool AxisOperator::overshoots() const {
  return std::any_of(weights.begin(), weights.end(), [](double weight) { return weight < 0; });
}

AxisOperator AxisOperator::part(int64_t begin, int64_t end, int64_t slots) const {
  AxisOperator result{slots, {}, {}, {}};
  for (int64_t i = begin; i <= end; ++i) result.starts.push_back(starts[i] - starts[begin]);
  for (int64_t tap = starts[begin]; tap < starts[end]; ++tap) {
    result.columns.push_back(columns[tap] % slots);
    result.weights.push_back(weights[tap]);
  }
  return result;
}

AxisOperator resize_operator(int64_t length, int64_t new_length, int order, ResamplingMethod method,
                             Alignment alignment) {
  const bool is_torch = method != ResamplingMethod::spline;
  const int most = is_torch ? 1 : 5;
  if (order < 0 || order > most) {
    throw Error(ErrorCode::argument, "the spline order is " + std::to_string(order) +
                                         "; expected 0 to " + std::to_string(most));
  }
  if (length < 1 || new_length < 1) {
    throw Error(ErrorCode::argument, "an axis has no voxels");
  }
  if (method == ResamplingMethod::area) return area_operator(length, new_length);
  if (method == ResamplingMethod::floor) return floor_operator(length, new_length);
  if (alignment == Alignment::end_voxels) {
    return linear_operator(length, new_length,
                           [=](int64_t i) { return float32_end(i, length, new_length); });
  }
  if (order == 0) {
    return nearest_operator(length, new_length, is_torch ? float32_centre : nearest_centre);
  }
  if (order == 1) {
    const Centre centre_of = is_torch ? float32_centre : new_centre;
    return linear_operator(length, new_length,
                           [=](int64_t i) { return centre_of(i, length, new_length); });
  }
  return spline_operator(length, new_length, order);
}

AxisOperator spaced_operator(int64_t length, int64_t new_length, double first, double step,
                             int order) {
  const auto place = [=](int64_t i) { return first + static_cast<double>(i) * step; };
  if (order == 1) return linear_operator(length, new_length, place);
  AxisOperator result{length, {0}, {}, {}};
  for (int64_t i = 0; i < new_length; ++i) {
    result.columns.push_back(static_cast<int64_t>(std::nearbyint(inside(place(i), length))));
    result.weights.push_back(1);
    result.starts.push_back(i + 1);
  }
  return result;
}

}  // namespace sgmf
