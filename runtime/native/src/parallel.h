// Independent tasks over threads, whoever owns the threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace sgmf {

// Calls its second argument once for each index below the first, in any order, possibly at once.
using ParallelFor = std::function<void(std::size_t, const std::function<void(std::size_t)>&)>;

// Processors that this process may use.
int available_threads();

// `threads`, or all processors for 0, but one where `operations` on numbers are fewer than
// starting a thread is worth.
int worthwhile_threads(int threads, int64_t operations);

// A ParallelFor over up to `threads` threads started for the call.
ParallelFor own_threads(int threads);

}  // namespace sgmf
