// Interface between the rotary position code and its kernels, one for each instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// A row of tokens along the width. Each axis turns a third of the channels, and of these the first
// half with the second.
struct RotaryRow {
  int64_t half;         // of the channels of an axis
  const float* cos[3];  // (2 half) of the row's depth and height, then (tokens, 2 half)
  const float* sin[3];  // of the same; those of the first half are negative
};

}  // namespace sgmf
