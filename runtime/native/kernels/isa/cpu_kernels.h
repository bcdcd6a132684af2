// The kernels of one instruction set.
#pragma once

#include "kernels/isa/causal_conv1d_kernel.h"
#include "kernels/isa/conv3d/conv3d_kernel.h"
#include "kernels/isa/conv3d/pointwise_kernel.h"
#include "kernels/isa/depthwise_conv3d_kernel.h"
#include "kernels/isa/instance_norm_kernel.h"
#include "kernels/isa/linear_kernel.h"
#include "kernels/isa/patch_embed_kernel.h"
#include "kernels/isa/patch_filter_kernel.h"
#include "kernels/isa/rotary_kernel.h"
#include "kernels/isa/scan/selective_scan_gradient_kernel.h"
#include "kernels/isa/scan/selective_scan_kernel.h"
#include "kernels/isa/upsample_kernel.h"
#include "kernels/isa/volume_norm_kernel.h"

namespace sgmf {

struct CpuKernels {
  const char* name;
  int lanes;  // floats in a vector
  const ScanKernel* scan;
  const ScanGradientKernel* scan_gradient;
  const Conv3dKernel* conv3d;
  const PointwiseKernel* pointwise;
  void (*depthwise_conv3d)(const DepthwiseConv3d& conv, const RowBlock& rows);
  const InstanceNormKernel* instance_norm;
  const VolumeNormKernel* volume_norm;
  const LinearKernel* linear;
  const PatchFilterKernel* patch_filter;
  void (*rotate_row)(const RotaryRow& row, const float* x, int64_t tokens, float* y);
  void (*upsample_add)(const UpsampleAdd& op, int64_t begin, int64_t end, float* scratch);
  void (*upsample)(const Upsample& op, int64_t begin, int64_t end, float* scratch);
  void (*causal_conv1d_silu)(const CausalConv1d& conv, int64_t begin, int64_t end);
  int64_t (*patch_embed_scratch)(const PatchEmbed& op, int64_t rows);  // floats
  void (*patch_embed)(const PatchEmbed& op, const PatchRows& rows, float* scratch);
};

}  // namespace sgmf
