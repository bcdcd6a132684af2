/* Native ops around the scan, as one C function: convolutions, normalisation and upsampling of
 * dense float32 arrays. Token-major arrays have their channels C innermost.
 *
 *   op               inputs                                   attributes
 *   Conv3d           x (B,C,D,H,W), weight (K,C,3,3,3),       strides, pads
 *                    (K,C,1,3,3) or (K,C,1,1,1), bias (K)
 *   ConcatConv3d     x, weight and bias as for Conv3d of      strides, pads
 *                    C + R channels, rest (B,R,D,H,W)
 *   ConvTranspose3d  x (B,C,D,H,W), weight (C,K,k,k',1 or 2), strides
 *                    bias (K)
 *   DepthwiseConv3d  x (B,D,H,W,C), weight (C,1,3,3,3),       group = C
 *                    bias (C)
 *   InstanceNormGelu x (B,D,H,W,C), scale (C), bias (C)       epsilon
 *   InstanceNormRelu x (B,D,H,W,C), scale (C), bias (C)       epsilon
 *   InstanceNorm     x (B,C,...), scale (C), bias (C)         epsilon, alpha
 *   InstanceNormAdd  x (B,C,...), scale (C), bias (C), rest   epsilon, alpha
 *                    (B,C,...)
 *   InstanceNormTokens
 *                    x (B,D,H,W,C), scale (C), bias (C)       epsilon, alpha
 *   UpsampleAdd      x (B,d,h,w,C), y (B,D,H,W,C)             scales
 *   Upsample         x (B,C,d,h,w)                            scales
 *   UpsampleNearest  x (B,C,d,h,w)                            scales
 *   CausalConv1dSilu x (B,L,C), weight (C,1,K), bias (C)      group = C, pads
 *   PatchEmbed       x (B,C,D,H,W), weight (E,C,k,k',k''),    strides, pads
 *                    bias (E)
 *   RotaryNorm       x (B,D,H,W,C), cos and sin               epsilon
 *                    (D+H+W,C/3), scale (C), shift (C)
 *   NormLinear       x (...,C), weight (C,K), bias (K),       epsilon
 *                    scale (C), shift (C)
 *   LinearAdd        x (...,C), weight (C,K), bias (K),
 *                    rest (...,K)
 *   FoldedNorm       x (...,C), weight (C,K), bias (K)        epsilon
 *   InstanceNormGeluLinearAdd
 *                    x (B,D,H,W,C), weight (C,K), bias (K),   epsilon
 *                    scale (C), shift (C), rest (B,D,H,W,K)
 *   InstanceNormReluLinear
 *                    x (B,D,H,W,C), weight (C,K), bias (K),   epsilon
 *                    scale (C), shift (C)
 *   LinearUpsampleAdd
 *                    x (B,D,H,W,C), weight (C,K), bias (K),
 *                    three of (B,d,h,w,K)
 *
 * Conv3d is ONNX's Conv with zero padding, pads of one along each axis of three taps, and
 * strides (1,1,1), with 1x3x3 or 3x3x3 taps (1,2,2) or with 3x3x3 taps (2,2,2), zeros for ones; its
 * result is (B,K,D',H',W'), of extents divided by the strides and rounded up. ConcatConv3d is the
 * same of the channels of x and, behind them, those of rest. ConvTranspose3d is ONNX's
 * ConvTranspose without padding, its strides the extents of the kernel. DepthwiseConv3d pads with
 * one zero on every side; its result has the shape of x. InstanceNorm* is ONNX's
 * InstanceNormalization over all axes but batch and channels, its moments summed in short float32
 * runs that are added in float64, the same for any number of threads. GELU with the exact error
 * function follows, or ReLU, or what is negative is multiplied with alpha: 1 for the norm alone.
 * InstanceNormAdd adds rest before it does that. Upsample is trilinear with half-pixel centres and
 * clamped edges to (B,C,D,H,W), where D = d * scales[0] and so on; UpsampleAdd adds that of x to y.
 * UpsampleNearest repeats every voxel scales[0], scales[1] and scales[2] times along the axes.
 * CausalConv1dSilu gives SiLU(bias + sum_k weight[k] x[t - pads[0] + k]), zero outside the
 * sequence, in the shape of x. PatchEmbed is ONNX's Conv with strides and zero padding, its result
 * token-major: (B,D',H',W',E). RotaryNorm is ONNX's LayerNormalization over C of x turned by tables
 * whose rows belong to depths, then heights, then widths: of the first third of C halves u and v
 * become u cos + v sin and v cos + u sin with the depth's row, of the others with the height's and
 * the width's. NormLinear is x weight + bias,
 * (...,K), of ONNX's LayerNormalization of x over C; LinearAdd is x weight + bias + rest.
 * FoldedNorm is x with a one behind its channels,
 * (...,C+1), divided by the root of |x weight + bias|^2 + epsilon.
 * InstanceNormGeluLinearAdd and InstanceNormReluLinear are such products of what InstanceNormGelu
 * and InstanceNormRelu give. LinearUpsampleAdd adds to x weight + bias what Upsample makes of three
 * volumes whose extents divide those of x.
 */
#ifndef SGMF_TOKEN_OPS_H_
#define SGMF_TOKEN_OPS_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SGMF_TOKEN_OP_MAX_RANK 5
#define SGMF_TOKEN_OP_MAX_INPUTS 6

typedef struct sgmf_tensor {
  float* data; /* of an input only read */
  int32_t rank;
  int64_t extent[SGMF_TOKEN_OP_MAX_RANK];
} sgmf_tensor;

/* Every pointer is borrowed for the call. Attributes that the op does not have are ignored. */
typedef struct sgmf_token_op_args {
  const char* op;
  int32_t input_count;
  sgmf_tensor inputs[SGMF_TOKEN_OP_MAX_INPUTS];
  int64_t group;
  float epsilon;
  float alpha;     /* from 0 to 1 */
  float scales[3]; /* depth, height, width: whole numbers */
  int64_t strides[3];
  int64_t pads[6]; /* before each axis, then after each; CausalConv1dSilu has one axis, and its
                      two add up to K - 1 */
  sgmf_tensor y;   /* of the shape of the result; overlaps no input, but may be x itself for
                      InstanceNorm*, y itself for UpsampleAdd and rest itself for LinearAdd and
                      InstanceNormGeluLinearAdd */
} sgmf_token_op_args;

/* Returns NULL, or a text that says what does not fit, valid until this thread's next call.
 * `threads` and `isa` as in selective_scan.h. */
SGMF_API const char* sgmf_token_op(const sgmf_token_op_args* args, int32_t threads,
                                   const char* isa);

#ifdef __cplusplus
}
#endif

#endif
