// Spread and normalisation of one channel of a volume, compiled once for each instruction set.
#include "kernels/isa/volume_norm_kernel.h"

#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

using sgmf::NormaliseRow;
using sgmf::Spread;

// Vectors that are summed side by side: the additions of one would wait for each other.
constexpr int group = 4;

// Steps of a run, whose sums are float32: 16 additions to each lane of each vector. Taken from a
// centre near their mean, the sums lose no more digits to a mean far from zero than the floats
// themselves have lost; they then go into float64.
constexpr int run_steps = 16;
constexpr int64_t step_size = group * lane_count;
constexpr int64_t run_size = run_steps * step_size;

double sum_of_lanes(const Vec* vectors) {
  float lanes[lane_count];
  store(lanes, (vectors[0] + vectors[1]) + (vectors[2] + vectors[3]));
  double sum = 0.0;
  for (float lane : lanes) sum += lane;
  return sum;
}

// `steps` whole steps, up to run_steps of them.
Spread measure_run(const float* x, int64_t steps) {
  Vec sum[group], square[group];
  for (int i = 0; i < group; ++i) sum[i] = splat(0.0f);
  for (int64_t t = 0; t < steps; ++t) {
    for (int i = 0; i < group; ++i) sum[i] = sum[i] + load(x + t * step_size + i * lane_count);
  }
  const double size = static_cast<double>(steps * step_size);
  const float middle = static_cast<float>(sum_of_lanes(sum) / size);
  const Vec centre = splat(middle);
  for (int i = 0; i < group; ++i) sum[i] = square[i] = splat(0.0f);
  for (int64_t t = 0; t < steps; ++t) {
    for (int i = 0; i < group; ++i) {
      const Vec distance = load(x + t * step_size + i * lane_count) - centre;
      sum[i] = sum[i] + distance;
      square[i] = fma(distance, distance, square[i]);
    }
  }
  const double distances = sum_of_lanes(sum);
  const double off = distances / size;
  return {steps * step_size, middle + off, sum_of_lanes(square) - distances * off};
}

// Fewer floats than a step.
Spread measure_rest(const float* x, int64_t size) {
  double mean = 0.0, squares = 0.0;
  for (int64_t i = 0; i < size; ++i) mean += x[i];
  mean /= static_cast<double>(size);
  for (int64_t i = 0; i < size; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {size, mean, squares};
}

Spread measure(const float* x, int64_t size) {
  Spread all;
  int64_t i = 0;
  while (i + step_size <= size) {
    const int64_t steps = size - i < run_size ? (size - i) / step_size : run_steps;
    all = together(all, measure_run(x + i, steps));
    i += steps * step_size;
  }
  return i < size ? together(all, measure_rest(x + i, size - i)) : all;
}

void normalise(const NormaliseRow& how, const float* x, int64_t size, const float* rest, float* y) {
  const Vec centre = splat(how.centre), gain = splat(how.gain);
  const Vec offset = splat(how.offset), slope = splat(how.slope);
  for_each_vector(size, [&](int64_t i, auto lanes) {
    const Vec normed = fma(load_lanes(x + i, lanes) - centre, gain, offset);
    const Vec z = rest ? normed + load_lanes(rest + i, lanes) : normed;
    store_lanes(y + i, max(z * slope, z), lanes);
  });
}

}  // namespace

extern const sgmf::VolumeNormKernel volume_norm_kernel = {measure, normalise};

}  // namespace SGMF_ISA
