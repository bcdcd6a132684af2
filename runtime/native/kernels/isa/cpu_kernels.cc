// The table of one instruction set's kernels; compiled once for each. Addresses only: nothing
// may run before the processor was asked.
#include "kernels/isa/cpu_kernels.h"

#include "kernels/isa/simd.h"

namespace SGMF_ISA {

extern const sgmf::ScanKernel selective_scan_kernel;
extern const sgmf::ScanGradientKernel selective_scan_gradient_kernel;
extern const sgmf::Conv3dKernel conv3d_kernel;
extern const sgmf::PointwiseKernel pointwise_kernel;
extern const sgmf::InstanceNormKernel instance_norm_kernel;
extern const sgmf::VolumeNormKernel volume_norm_kernel;
extern const sgmf::LinearKernel linear_kernel;
extern const sgmf::PatchFilterKernel patch_filter_kernel;
void rotate_row(const sgmf::RotaryRow& row, const float* x, int64_t tokens, float* y);
void depthwise_conv3d(const sgmf::DepthwiseConv3d& conv, const sgmf::RowBlock& rows);
void upsample_add(const sgmf::UpsampleAdd& op, int64_t begin, int64_t end, float* scratch);
void upsample(const sgmf::Upsample& op, int64_t begin, int64_t end, float* scratch);
void causal_conv1d_silu(const sgmf::CausalConv1d& conv, int64_t begin, int64_t end);
int64_t patch_embed_scratch(const sgmf::PatchEmbed& op, int64_t rows);
void patch_embed(const sgmf::PatchEmbed& op, const sgmf::PatchRows& rows, float* scratch);

extern const sgmf::CpuKernels kernels = {
    SGMF_ISA_NAME,       lane_count,        &selective_scan_kernel, &selective_scan_gradient_kernel,
    &conv3d_kernel,      &pointwise_kernel, depthwise_conv3d,       &instance_norm_kernel,
    &volume_norm_kernel, &linear_kernel,    &patch_filter_kernel,   rotate_row,
    upsample_add,        upsample,          causal_conv1d_silu,     patch_embed_scratch,
    patch_embed};

}  // namespace SGMF_ISA
