// What the scan and its gradient share: A of a panel of channels, and columns of tokens.
#pragma once

#include <cmath>

#include "kernels/isa/scan/selective_scan_kernel.h"
#include "kernels/isa/simd_math.h"

namespace SGMF_ISA {

constexpr int panel_channels = sgmf::panel_channels;
constexpr float largest_bounded_exponent = 125.0f;

inline float largest(Vec x) {
  float buffer[lane_count];
  store(buffer, x);
  float found = buffer[0];
  for (int i = 1; i < lane_count; ++i) found = buffer[i] > found ? buffer[i] : found;
  return found;
}

// A of a panel as [state][channel], times log2(e) so that exp becomes exp2; zero beyond the last
// channel. Returns the largest magnitude, NaN where there is one.
inline float load_decay(const sgmf_selective_scan_args& args, int64_t channel, int channels,
                        float* decay) {
  float limit = 0.0f;
  for (int64_t n = 0; n < args.states; ++n) {
    for (int i = 0; i < panel_channels; ++i) {
      const float a = i < channels ? args.A[(channel + i) * args.states + n] * log2_e : 0.0f;
      decay[n * panel_channels + i] = a;
      if (!(std::fabs(a) <= limit || std::isnan(limit))) limit = std::fabs(a);
    }
  }
  return limit;
}

}  // namespace SGMF_ISA
