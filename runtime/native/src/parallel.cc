#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace sgmf {

int available_threads() { return std::max(1u, std::thread::hardware_concurrency()); }

int worthwhile_threads(int threads, int64_t operations) {
  constexpr int64_t kLeast = 1 << 16;
  if (operations < kLeast) return 1;
  return threads > 0 ? threads : available_threads();
}

ParallelFor own_threads(int threads) {
  return [threads](std::size_t tasks, const std::function<void(std::size_t)>& task) {
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t i = next++; i < tasks; i = next++) task(i);
    };
    std::vector<std::thread> helpers;
    const std::size_t wanted = std::min<std::size_t>(threads, tasks);
    for (std::size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
  };
}

}  // namespace sgmf
