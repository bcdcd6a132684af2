#include <algorithm>
#include <cmath>

#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "InstanceNorm";
constexpr const char* add_name = "InstanceNormAdd";

// Floats that are measured by one task. A part does not depend on the number of threads, and
// neither does a result.
constexpr int64_t part_size = 1 << 18;

bool has_vectors(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape vector = {x.size() > 2 ? x[1] : 0};
  return x.size() > 2 && call.shape(1) == vector && call.shape(2) == vector;
}

Shape check(const TokenOpCall& call) {
  if (!has_vectors(call)) refuse_shapes(name, "x (B, C, ...), scale (C) and bias (C)", call);
  check_slope(call, name);
  return call.shape(0);
}

Shape check_add(const TokenOpCall& call) {
  if (!has_vectors(call) || call.shape(3) != call.shape(0)) {
    refuse_shapes(add_name, "x (B, C, ...), scale (C), bias (C) and rest (B, C, ...)", call);
  }
  check_slope(call, add_name);
  return call.shape(0);
}

// The factors of one channel. What the mean loses as a float goes into the offset.
NormaliseRow factors(const Spread& spread, const TokenOpCall& call, int64_t channel) {
  const double variance = spread.squares / static_cast<double>(spread.count);
  const double gain = call.data(1)[channel] / std::sqrt(variance + call.attributes.epsilon);
  const float centre = static_cast<float>(spread.mean);
  const double offset = call.data(2)[channel] - (spread.mean - centre) * gain;
  return {centre, static_cast<float>(gain), static_cast<float>(offset), call.attributes.alpha};
}

// Channels of `size` floats each, one after the other or in parts.
struct Rows {
  const TokenOpCall& call;
  float* y;
  const VolumeNormKernel& kernel;
  int64_t channels;
  int64_t size;

  int64_t parts() const { return (size + part_size - 1) / part_size; }
  int64_t begin(int64_t row, int64_t part) const { return row * size + part * part_size; }
  int64_t extent(int64_t part) const { return std::min(part_size, size - part * part_size); }

  Spread measure(int64_t row, int64_t part) const {
    return kernel.measure(call.data(0) + begin(row, part), extent(part));
  }

  void normalise(const NormaliseRow& how, int64_t row, int64_t part) const {
    const int64_t first = begin(row, part);
    const float* rest = call.inputs.size() > 3 ? call.data(3) + first : nullptr;
    kernel.normalise(how, call.data(0) + first, extent(part), rest, y + first);
  }

  NormaliseRow factors_of(const Spread* spreads, int64_t row) const {
    Spread all = spreads[0];
    for (int64_t part = 1; part < parts(); ++part) all = together(all, spreads[part]);
    return factors(all, call, row % channels);
  }

  // From the last part to the first, which the caches hold least.
  void run(int64_t row) const {
    std::vector<Spread> spreads(parts());
    for (int64_t part = 0; part < parts(); ++part) spreads[part] = measure(row, part);
    const NormaliseRow how = factors_of(spreads.data(), row);
    for (int64_t part = parts(); part-- > 0;) normalise(how, row, part);
  }
};

// Where there are too few channels to keep all threads busy, their parts are done side by side.
void run_in_parts(const Rows& rows, int64_t count, const ParallelFor& parallel) {
  const int64_t parts = rows.parts();
  std::vector<Spread> spreads(count * parts);
  parallel(spreads.size(), [&](std::size_t i) {
    spreads[i] = rows.measure(static_cast<int64_t>(i) / parts, static_cast<int64_t>(i) % parts);
  });
  parallel(spreads.size(), [&](std::size_t i) {
    const int64_t row = static_cast<int64_t>(i) / parts;
    rows.normalise(rows.factors_of(spreads.data() + row * parts, row), row,
                   static_cast<int64_t>(i) % parts);
  });
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  const Shape& shape = call.shape(0);
  const int64_t count = shape[0] * shape[1];
  const Rows rows{call, y, *workers.kernels.volume_norm, shape[1], element_count(shape) / count};
  if (rows.parts() > 1 && count < 4 * workers.threads) {
    run_in_parts(rows, count, workers.parallel);
    return;
  }
  for_each_span(workers.parallel, count, rows.size, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) rows.run(row);
  });
}

}  // namespace

extern const TokenOp instance_norm_op = {name, 3, 0, true, check, run};
extern const TokenOp instance_norm_add_op = {add_name, 4, 0, true, check_add, run};

}  // namespace sgmf
