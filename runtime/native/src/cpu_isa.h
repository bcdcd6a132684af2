// The instruction sets that this library was compiled for and this processor has.
#pragma once

#include <vector>

#include "selective_scan_kernel.h"

namespace sgmf {

// Kernels that can run here, best first; never empty.
const std::vector<const ScanKernel*>& scan_kernels();

}  // namespace sgmf
