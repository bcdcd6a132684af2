// Interface between the gradient's dispatcher and its kernels, one for each instruction set.
#pragma once

#include "kernels/interface/selective_scan_gradient.h"
#include "kernels/isa/scan/selective_scan_kernel.h"

namespace sgmf {

// Tokens whose states are found anew and kept at once.
constexpr int gradient_tokens = 32;

// Sums of one panel over the tokens that have passed, in float64: there are hundreds of thousands.
struct PanelSums {
  double a[SGMF_SCAN_MAX_STATES * panel_channels];  // [states][panel_channels]
  double d[panel_channels];
  double delta_bias[panel_channels];
};

// One short stretch of the sequence for one batch entry and one panel of channels.
struct GradientSpan {
  int64_t batch;
  int64_t channel;  // first of the panel
  int channels;     // at most panel_channels
  int64_t begin;    // logical tokens, at most gradient_tokens of them
  int64_t end;
  const float* state;  // [states][panel_channels], h before `begin`
  float* adjoint;      // the same shape, in: the gradient of h[end - 1] by what follows; out: that
                       // of h[begin - 1]
  float* grad_b;       // (length, states) of this batch entry, added to
  float* grad_c;
  PanelSums* sums;  // added to
  float* scratch;   // as many floats as scratch() says, aligned to 64 bytes
};

struct ScanGradientKernel {
  int64_t (*scratch)(int64_t states);
  void (*run)(const sgmf_selective_scan_gradient_args& args, const GradientSpan& span);
};

}  // namespace sgmf
