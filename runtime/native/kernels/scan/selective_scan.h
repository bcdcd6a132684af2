// The scan for callers inside the library, who bring their own threads.
#pragma once

#include "kernels/interface/selective_scan.h"
#include "kernels/parallel.h"

namespace sgmf {

// Returns nullptr, or a static text that says which argument is wrong.
const char* check(const sgmf_selective_scan_args& args);

// Number of threads, up to `threads`, that are worth waking for this much work.
int useful_threads(const sgmf_selective_scan_args& args, int threads);

// Runs checked arguments. `threads` is how many tasks `parallel` can run at once; it decides
// whether the sequence is cut, never whether the result is right.
const char* selective_scan(const sgmf_selective_scan_args& args, int threads,
                           const ParallelFor& parallel, const char* isa);

}  // namespace sgmf
