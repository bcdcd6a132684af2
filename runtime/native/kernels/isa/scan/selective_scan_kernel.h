// Interface between the scan's dispatcher and its kernels, one for each instruction set.
#pragma once

#include "kernels/interface/selective_scan.h"

namespace sgmf {

// Channels that one task carries at most: wide enough to read whole stretches of memory.
constexpr int panel_channels = 64;

// One stretch of the sequence for one batch entry and one panel of channels.
struct ScanSpan {
  int64_t batch;
  int64_t channel;  // first of the panel
  int channels;     // at most panel_channels
  int64_t begin;    // logical tokens: token 0 comes first in either direction of the scan
  int64_t end;
  float* state;     // [states][panel_channels], in: h before `begin`, out: h after `end`
  float* step_sum;  // [panel_channels], the steps are added to it
  bool write_y;     // false: only the state is wanted
};

struct ScanKernel {
  void (*run)(const sgmf_selective_scan_args& args, const ScanSpan& span);
  // Adds to the state of a span that was run from zero the contribution of `carry`, the state
  // before that span.
  void (*add_carry)(const sgmf_selective_scan_args& args, const ScanSpan& span, const float* carry);
};

}  // namespace sgmf
