#include "kernels/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "system/processors.h"

namespace sgmf {

const char* const out_of_memory = "out of memory or threads";

int available_threads() {
  static const int found = sgmf_available_processors(nullptr);
  return found;
}

int worthwhile_threads(int threads, int64_t operations) {
  constexpr int64_t kLeast = 1 << 16;
  if (operations < kLeast) return 1;
  return threads > 0 ? threads : available_threads();
}

ParallelFor own_threads(int threads) {
  return [threads](std::size_t tasks, const std::function<void(std::size_t)>& task) {
    std::atomic<std::size_t> next{0};
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto work = [&]() noexcept {
      try {
        for (std::size_t i = next++; i < tasks; i = next++) task(i);
      } catch (...) {
        next = tasks;
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
      }
    };
    std::vector<std::thread> helpers;
    const std::size_t wanted = std::min<std::size_t>(threads, tasks);
    try {
      for (std::size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
    } catch (const std::exception&) {
      // No more threads or memory for them: those that there are do the work.
    }
    work();
    for (std::thread& helper : helpers) helper.join();
    if (error) std::rethrow_exception(error);
  };
}

}  // namespace sgmf
