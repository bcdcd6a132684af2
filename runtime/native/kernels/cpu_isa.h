// The instruction sets that this library was compiled for and this processor has.
#pragma once

#include <vector>

#include "kernels/isa/cpu_kernels.h"

namespace sgmf {

// Kernels that can run here, best first; never empty.
const std::vector<const CpuKernels*>& cpu_kernels();

// Those of the named instruction set, the best for nullptr; nullptr where they cannot run here.
const CpuKernels* find_kernels(const char* isa);

constexpr const char* isa_missing =
    "this processor or this library lacks the instruction set asked for";

}  // namespace sgmf
