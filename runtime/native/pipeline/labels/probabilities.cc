#include "pipeline/labels/probabilities.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/finite.h"

namespace sgmf {
namespace {

void centred_sigmoid(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = 1 / (1 + std::exp(-values[i])) - 0.5f;
}

void softmax(float* row, int64_t width, int64_t channels, int64_t channel_stride) {
  std::vector<float> largest(row, row + width), total(static_cast<std::size_t>(width));
  for (int64_t k = 1; k < channels; ++k) {
    const float* values = row + k * channel_stride;
    for (int64_t i = 0; i < width; ++i) largest[i] = std::max(largest[i], values[i]);
  }
  for (int64_t k = 0; k < channels; ++k) {
    float* values = row + k * channel_stride;
    for (int64_t i = 0; i < width; ++i) {
      values[i] = std::exp(values[i] - largest[i]);
      total[i] += values[i];
    }
  }
  for (int64_t k = 0; k < channels; ++k) {
    float* values = row + k * channel_stride;
    for (int64_t i = 0; i < width; ++i) values[i] /= total[i];
  }
}

}  // namespace

bool to_probabilities(float* row, int64_t width, int64_t channels, int64_t channel_stride,
                      bool exclusive) {
  for (int64_t k = 0; k < channels; ++k) {
    float* values = row + k * channel_stride;
    if (!all_finite(values, width, 1)) return false;
    if (!exclusive) centred_sigmoid(values, width);
  }
  if (exclusive) softmax(row, width, channels, channel_stride);
  return true;
}

}  // namespace sgmf
