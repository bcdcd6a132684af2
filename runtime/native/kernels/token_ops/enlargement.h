// Volumes made larger by whole factors along each axis, as by the op Upsample, row by row.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/isa/cpu_kernels.h"

namespace sgmf {

class Enlargement {
 public:
  using Extent = std::array<int64_t, 3>;

  // Of volumes `low` to `high`, each extent a multiple of the one it comes from.
  Enlargement(const Extent& low, const Extent& high, const CpuKernels& kernels);

  // Rows `begin` to `end` of volumes x (n, *low), numbered through volumes, depth and height, into
  // y (end - begin, width). May be called from several threads at once.
  void rows(const float* x, int64_t begin, int64_t end, float* y) const;

 private:
  Extent low_;
  Extent high_;
  const CpuKernels& kernels_;
  std::array<std::vector<Tap>, 2> taps_;  // depth, height
  // Of the width, for vectors of output positions.
  std::vector<int64_t> first_;
  std::vector<int32_t> lanes_;
  std::vector<float> weights_;
};

}  // namespace sgmf
