// What the dispatcher and the per-instruction-set kernels agree on.
#pragma once

#include "sgmf/selective_scan.h"

namespace sgmf {

// One stretch of the sequence for one batch entry and one block of `lanes` channels.
struct ScanSpan {
  int64_t batch;
  int64_t block;
  int64_t begin;     // logical tokens: token 0 comes first whichever way the scan runs
  int64_t end;
  float* state;      // states * lanes floats, in: h before `begin`, out: h after `end`
  float* step_sum;   // lanes floats, out: sum of the steps; NULL where not wanted
  bool write_y;      // false: only the state is wanted
};

struct ScanKernel {
  const char* name;
  int lanes;
  void (*run)(const sgmf_selective_scan_args& args, const ScanSpan& span);
  // Adds to `state`, the result of a span that started from zero, what `carry`, the state
  // before that span, has become after steps that sum to `step_sum`.
  void (*add_carry)(const sgmf_selective_scan_args& args, int64_t block, const float* step_sum,
                    const float* carry, float* state);
};

}  // namespace sgmf
