// Interface between the norm of channel-major volumes and its kernels, one per instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// Number of floats, their mean, and the sum of their squared distances from it.
struct Spread {
  int64_t count = 0;
  double mean = 0.0;
  double squares = 0.0;
};

// The spread of all floats of both. Static, so that code for one instruction set never takes the
// place of another's. Source: T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a
// pairwise algorithm for computing sample variances, 1979.
static inline Spread together(const Spread& a, const Spread& b) {
  const int64_t count = a.count + b.count;
  const double share = static_cast<double>(b.count) / static_cast<double>(count);
  const double distance = b.mean - a.mean;
  const double between = distance * distance * share * static_cast<double>(a.count);
  return {count, a.mean + distance * share, a.squares + b.squares + between};
}

// y = z where z = (x - centre) * gain + offset + rest is positive, and slope * z elsewhere.
struct NormaliseRow {
  float centre;
  float gain;
  float offset;
  float slope;
};

struct VolumeNormKernel {
  Spread (*measure)(const float* x, int64_t size);
  // `rest` may be nullptr, or y.
  void (*normalise)(const NormaliseRow& how, const float* x, int64_t size, const float* rest,
                    float* y);
};

}  // namespace sgmf
