#include "kernels/finite.h"

#include <algorithm>
#include <atomic>

#include "kernels/parallel.h"
#include "kernels/vectorised.h"

namespace sgmf {
namespace {

SGMF_VECTORISED uint32_t largest_magnitude(const float* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, magnitude_bits(values[i]));
  return largest;
}

}  // namespace

bool all_finite(const float* values, int64_t count, int threads) {
  constexpr int64_t part = 1 << 18;
  std::atomic<bool> finite{true};
  const std::size_t tasks = static_cast<std::size_t>((count + part - 1) / part);
  own_threads(worthwhile_threads(threads, count))(tasks, [&](std::size_t task) {
    const int64_t begin = static_cast<int64_t>(task) * part;
    const uint32_t largest = largest_magnitude(values + begin, std::min(part, count - begin));
    if (!is_finite_magnitude(largest)) finite = false;
  });
  return finite;
}

}  // namespace sgmf
