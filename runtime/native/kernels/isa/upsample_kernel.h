// Interface between the trilinear upsampling ops and their kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// One position of an output axis: low[lower] + weight * (low[upper] - low[lower]).
struct Tap {
  int64_t lower;
  int64_t upper;
  float weight;
};

// Token-major. Rows of the output are numbered through batch, depth and height.
struct UpsampleAdd {
  int64_t low[3];
  int64_t high[3];
  int64_t channels;
  const Tap* taps[3];  // (high[i])
  const float* x;      // (batch, low, channels)
  const float* added;  // (batch, high, channels)
  float* y;
};

// Channel-major. Rows of the output are numbered through batch, channels, depth and height; some of
// them are computed. They are cut into vectors; lane j of vector v lies `lanes[v][j]` after
// `first[v]`.
struct Upsample {
  int64_t low[3];
  int64_t high[3];
  const Tap* taps[2];    // depth, height
  const int64_t* first;  // (vectors)
  const int32_t* lanes;  // (vectors, lane_count)
  const float* weights;  // (vectors, lane_count)
  const float* x;
  float* y;  // of the first row that is computed
};

}  // namespace sgmf
