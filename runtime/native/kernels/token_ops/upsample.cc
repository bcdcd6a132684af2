#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <stdexcept>

#include "kernels/token_ops/enlargement.h"
#include "kernels/token_ops/linear.h"
#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "Upsample";
constexpr const char* nearest_name = "UpsampleNearest";
constexpr const char* add_name = "UpsampleAdd";
constexpr const char* linear_name = "LinearUpsampleAdd";

// Coarse volumes of LinearUpsampleAdd: its inputs from this one on.
constexpr std::size_t first_low = 3;

void check_scales(const TokenOpCall& call, const char* op) {
  std::string found;
  bool whole = true;
  for (float scale : call.attributes.scales) {
    found += (found.empty() ? "" : ", ") + std::to_string(scale);
    whole = whole && scale >= 1.0f && scale <= 1024.0f && scale == std::floor(scale);
  }
  if (!whole) {
    throw std::invalid_argument(
        std::string(op) + ": scales must be three whole numbers from 1 to 1024; found " + found);
  }
}

// `shape` with its extents from `axis` times the scales.
Shape scaled(Shape shape, std::size_t axis, const TokenOpCall& call) {
  for (float scale : call.attributes.scales) shape[axis++] *= static_cast<int64_t>(scale);
  return shape;
}

Shape check_volume(const TokenOpCall& call, const char* op) {
  if (call.shape(0).size() != 5) refuse_shapes(op, "x (B, C, d, h, w)", call);
  check_scales(call, op);
  return scaled(call.shape(0), 2, call);
}

Shape check(const TokenOpCall& call) { return check_volume(call, name); }

Shape check_nearest(const TokenOpCall& call) { return check_volume(call, nearest_name); }

Shape check_add(const TokenOpCall& call) {
  check_scales(call, add_name);
  if (call.shape(0).size() != 5 || call.shape(1) != scaled(call.shape(0), 1, call)) {
    refuse_shapes(add_name, "x (B, d, h, w, C) and y (B, D, H, W, C), the scales times as large",
                  call);
  }
  return call.shape(1);
}

// Whether each extent of `high` is that of `low` times a whole number.
bool enlarges(const Shape& low, const Shape& high) {
  if (low.size() != 5 || low[0] != high[0] || low[4] != high[4]) return false;
  for (int i = 1; i < 4; ++i) {
    if (low[i] ? high[i] % low[i] : high[i]) return false;
  }
  return true;
}

Shape check_linear(const TokenOpCall& call) {
  const Shape y = product_shape(call);
  bool fits = y.size() == 5;
  for (std::size_t i = first_low; i < call.inputs.size(); ++i) {
    fits = fits && enlarges(call.shape(i), y);
  }
  if (!fits) {
    refuse_shapes(linear_name,
                  "x (B, D, H, W, C), weight (C, K), bias (K) and three times (B, d, h, w, K), "
                  "D, H and W multiples of d, h and w",
                  call);
  }
  return y;
}

// Where an output position lies between input positions: (o + 1/2) / scale - 1/2, clamped.
std::vector<Tap> make_taps(int64_t low, int64_t high) {
  const int64_t scale = high / low;
  std::vector<Tap> taps(high);
  for (int64_t o = 0; o < high; ++o) {
    const int64_t twice = std::max<int64_t>(0, 2 * o + 1 - scale);
    const int64_t lower = twice / (2 * scale);
    taps[o] = {lower, std::min(lower + 1, low - 1),
               static_cast<float>(twice % (2 * scale)) / static_cast<float>(2 * scale)};
  }
  return taps;
}

// A coarse volume on its way to be added to a fine one.
struct Addition {
  Addition(const Tensor& low, const Shape& high, const float* added, float* y)
      : taps{make_taps(low.shape[1], high[1]), make_taps(low.shape[2], high[2]),
             make_taps(low.shape[3], high[3])},
        op{{low.shape[1], low.shape[2], low.shape[3]},
           {high[1], high[2], high[3]},
           high[4],
           {taps[0].data(), taps[1].data(), taps[2].data()},
           static_cast<const float*>(low.data),
           added,
           y} {}

  int64_t scratch() const { return op.low[2] * op.channels; }  // floats

  std::array<std::vector<Tap>, 3> taps;
  UpsampleAdd op;
};

void run_add(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& high = call.shape(1);
  const Addition low(call.inputs[0], high, call.data(1), y);
  for_each_span(workers.parallel, high[0] * high[1] * high[2], high[3] * high[4],
                [&](int64_t begin, int64_t end) {
                  std::vector<float> scratch(low.scratch());
                  workers.kernels.upsample_add(low.op, begin, end, scratch.data());
                });
}

// A row stays in the cache from its products to the last addition.
void run_linear(const TokenOpCall& call, float* y, const Workers& workers) {
  const CallWeights weights(call, workers);
  const Linear& how = weights.how();
  const Shape high = product_shape(call);
  std::vector<std::unique_ptr<Addition>> lows;
  for (std::size_t i = first_low; i < call.inputs.size(); ++i) {
    lows.push_back(std::make_unique<Addition>(call.inputs[i], high, y, y));
  }
  const int64_t width = high[3];
  for_each_span(workers.parallel, high[0] * high[1] * high[2], width * how.outputs,
                [&](int64_t begin, int64_t end) {
                  std::vector<float> scratch(width * how.outputs);
                  for (int64_t row = begin; row < end; ++row) {
                    workers.kernels.linear->multiply(how, call.data(0) + row * width * how.inputs,
                                                     width, nullptr, y + row * width * how.outputs);
                    for (const std::unique_ptr<Addition>& low : lows) {
                      workers.kernels.upsample_add(low->op, row, row + 1, scratch.data());
                    }
                  }
                });
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& low = call.shape(0);
  const Shape high = scaled(low, 2, call);
  const Enlargement enlargement({low[2], low[3], low[4]}, {high[2], high[3], high[4]},
                                workers.kernels);
  for_each_span(workers.parallel, high[0] * high[1] * high[2] * high[3], high[4],
                [&](int64_t begin, int64_t end) {
                  enlargement.rows(call.data(0), begin, end, y + begin * high[4]);
                });
}

// Each of `size` floats `times` times.
void repeat(const float* x, int64_t size, int64_t times, float* y) {
  if (times == 2) {  // a count that the compiler knows gives it whole vectors
    for (int64_t i = 0; i < size; ++i) y[2 * i] = y[2 * i + 1] = x[i];
    return;
  }
  for (int64_t i = 0; i < size; ++i) std::fill_n(y + i * times, times, x[i]);
}

// Rows that repeat one of x are copies of the first of them.
void run_nearest(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& low = call.shape(0);
  const Shape high = scaled(low, 2, call);
  const int64_t width = high[4];
  const int64_t along_depth = high[2] / low[2];
  const int64_t along_height = high[3] / low[3];
  for_each_span(workers.parallel, high[0] * high[1] * high[2], high[3] * width,
                [&](int64_t begin, int64_t end) {
                  for (int64_t plane = begin; plane < end; ++plane) {
                    const float* from = call.data(0) + plane / along_depth * low[3] * low[4];
                    float* to = y + plane * high[3] * width;
                    for (int64_t h = 0; h < high[3]; ++h, to += width) {
                      if (h % along_height) {
                        std::copy_n(to - width, width, to);
                      } else {
                        repeat(from + h / along_height * low[4], low[4], width / low[4], to);
                      }
                    }
                  }
                });
}

}  // namespace

Enlargement::Enlargement(const Extent& low, const Extent& high, const CpuKernels& kernels)
    : low_(low),
      high_(high),
      kernels_(kernels),
      taps_{make_taps(low[0], high[0]), make_taps(low[1], high[1])} {
  const std::vector<Tap> taps = make_taps(low[2], high[2]);
  const std::size_t lane_count = kernels.lanes;
  for (std::size_t o = 0; o < taps.size(); o += lane_count) {
    first_.push_back(taps[o].lower);
    for (std::size_t i = o; i < o + lane_count; ++i) {
      const Tap& tap = taps[std::min(i, taps.size() - 1)];
      lanes_.push_back(static_cast<int32_t>(tap.lower - first_.back()));
      weights_.push_back(tap.weight);
    }
  }
}

void Enlargement::rows(const float* x, int64_t begin, int64_t end, float* y) const {
  const Upsample op{{low_[0], low_[1], low_[2]},
                    {high_[0], high_[1], high_[2]},
                    {taps_[0].data(), taps_[1].data()},
                    first_.data(),
                    lanes_.data(),
                    weights_.data(),
                    x,
                    y};
  // A vector may be read from the last position and from the one after it.
  std::vector<float> scratch(low_[2] + 1 + kernels_.lanes);
  kernels_.upsample(op, begin, end, scratch.data());
}

extern const TokenOp upsample_op = {name, 1, -1, false, check, run};
extern const TokenOp upsample_nearest_op = {nearest_name, 1, -1, false, check_nearest, run_nearest};
extern const TokenOp upsample_add_op = {add_name, 2, 1, true, check_add, run_add};
extern const TokenOp linear_upsample_add_op = {linear_name,  6,          -1, false,
                                               check_linear, run_linear, 3,  pack_linear};

}  // namespace sgmf
