// Independent tasks over threads, for any owner of the threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace sgmf {

// Message of kernels if the system has no more threads.
extern const char* const out_of_memory;

// Calls its second argument once for each index below the first, in any order, possibly at once.
using ParallelFor = std::function<void(std::size_t, const std::function<void(std::size_t)>&)>;

// Processors that this process might use when it first asked.
int available_threads();

// `threads`, or all processors for 0; but one if so few `operations` on numbers are not worth
// starting a thread.
int worthwhile_threads(int threads, int64_t operations);

// A ParallelFor over up to `threads` threads started for the call, or as many as can be had. The
// first exception of a task ends the others before their next task, and is thrown.
ParallelFor own_threads(int threads);

}  // namespace sgmf
