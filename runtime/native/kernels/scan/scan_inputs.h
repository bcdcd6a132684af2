// The inputs of the op SelectiveScan, for every runtime that it is a part of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/interface/selective_scan.h"
#include "kernels/tensor.h"

namespace sgmf::scan {

enum Input : std::size_t { U, DELTA, A, B, C, D, Z, DELTA_BIAS, input_count };

// A, D and delta_bias are float32 whatever the element type.
constexpr bool is_parameter(std::size_t input) {
  return input == A || input == D || input == DELTA_BIAS;
}

using Inputs = std::array<Tensor, input_count>;

// Throws std::invalid_argument, naming the input, unless all fit together. A negative extent is an
// unknown one and fits.
void check_shapes(const Inputs& in);

struct Settings {
  int32_t element_type;
  bool delta_softplus;
  bool reverse;
};

// The arguments of a scan of inputs that were checked.
sgmf_selective_scan_args arguments(const Inputs& in, const Settings& settings, void* y);

}  // namespace sgmf::scan
