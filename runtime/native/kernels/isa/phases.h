// Rows apart by their position modulo a stride, so that lanes read what follows each other.
#pragma once

#include "kernels/isa/simd.h"

namespace SGMF_ISA {

// A vector for each of `stride` phases out of as many vectors, whose first float belongs to `first`
// and whose next to `first + step`.
template <int stride>
inline void split(const Vec* x, int first, int step, float* const* phases, int64_t at) {
  if constexpr (stride == 1) {
    store(phases[first] + at, *x);
  } else {
    Vec even[stride / 2], odd[stride / 2];
    for (int i = 0; i < stride / 2; ++i) {
      even[i] = even_of(x[2 * i], x[2 * i + 1]);
      odd[i] = odd_of(x[2 * i], x[2 * i + 1]);
    }
    split<stride / 2>(even, first, 2 * step, phases, at);
    split<stride / 2>(odd, first + step, 2 * step, phases, at);
  }
}

// The vectors from `at` of all phases.
template <int stride>
inline void split_vectors(const float* x, float* const* phases, int64_t at) {
  Vec in[stride];
  for (int i = 0; i < stride; ++i) in[i] = load(x + at * stride + i * lane_count);
  split<stride>(in, 0, 1, phases, at);
}

}  // namespace SGMF_ISA
