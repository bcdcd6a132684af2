// Weights of the dense convolution of volumes at the points of its filters, packed for its
// products.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/isa/conv3d/conv3d_form.h"

namespace SGMF_ISA {

// Weights of a group of outputs; in double, so that packed ones are rounded once.
typedef double Doubles __attribute__((vector_size(sizeof(double) * group)));
typedef float Singles __attribute__((vector_size(sizeof(float) * group)));

// Taps (3, 3) of one plane at the points of a plane.
template <typename Plane>
inline void transform_plane(const float (*weights)[group], Doubles* points) {
  constexpr int count = Plane::points;
  Doubles taps[9];
  Doubles rows[3 * count];
  for (int i = 0; i < 9; ++i) {
    Singles given;
    std::memcpy(&given, weights[i], sizeof(given));
    taps[i] = __builtin_convertvector(given, Doubles);
  }
  for (int i = 0; i < 3; ++i) Plane::taps(taps + i * 3, 1, rows + i * count, 1);
  for (int j = 0; j < count; ++j) {
    Plane::taps(rows + j, count, points + j, count);
  }
}

// Taps of one channel (depth taps, 3, 3) at all points, which lie `step` apart.
template <typename F>
void transform_weights(const float (*weights)[group], Singles* points, int step) {
  Doubles planes[F::Depth::tap_count * F::plane_points];
  for (int d = 0; d < F::Depth::tap_count; ++d) {
    transform_plane<typename F::Plane>(weights + d * 9, planes + d * F::plane_points);
  }
  for (int i = 0; i < F::plane_points; ++i) {
    Doubles along[F::Depth::points];
    F::Depth::taps(planes + i, F::plane_points, along);
    for (int d = 0; d < F::Depth::points; ++d) {
      points[(d * F::plane_points + i) * step] = __builtin_convertvector(along[d], Singles);
    }
  }
}

// Packs the weights of a group of outputs, some channels at once: those of one point lie side by
// side, and those of the next far away.
template <typename F>
void pack_group(const sgmf::Conv3d& conv, const float* weights, int64_t output_group,
                float* packed) {
  constexpr int most_channels = 16;
  constexpr int points = F::Depth::points * F::plane_points;
  constexpr int taps = F::Depth::tap_count * 9;
  const int64_t first = output_group * group;
  const int64_t outputs = std::min<int64_t>(group, conv.outputs - first);
  float given[most_channels * taps][group] = {};
  Singles found[points][most_channels];
  int64_t count = 0;
  for (int64_t channel = 0; channel < conv.channels; channel += count) {
    const int64_t chunk = channel / F::chunk_channels * F::chunk_channels;
    count = std::min<int64_t>(most_channels, conv.channels - channel);
    for (int64_t k = 0; k < outputs; ++k) {
      const float* of = weights + ((first + k) * conv.channels + channel) * taps;
      for (int64_t i = 0; i < count * taps; ++i) given[i][k] = of[i];
    }
    for (int64_t c = 0; c < count; ++c) {
      transform_weights<F>(given + c * taps, &found[0][c], most_channels);
    }
    for (int i = 0; i < points; ++i) {
      float* to = packed + F::packed_offset(conv, chunk, i / F::plane_points, i % F::plane_points,
                                            output_group);
      std::memcpy(to + (channel - chunk) * group, found[i], count * sizeof(Singles));
    }
  }
}

}  // namespace SGMF_ISA
