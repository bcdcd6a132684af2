// Dense convolutions that take every voxel by itself.
#pragma once

#include "kernels/token_ops/token_op.h"

namespace sgmf {

// A call of Conv3d or ConcatConv3d that was checked, its weight (K, C, 1, 1, 1).
void run_pointwise(const TokenOpCall& call, float* y, const Workers& workers);

}  // namespace sgmf
