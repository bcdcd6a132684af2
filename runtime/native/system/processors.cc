#include "system/processors.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <exception>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace {

// Those that this process may run on; none where the system does not tell.
std::vector<int> own_processors() {
  std::vector<int> found;
#if defined(__linux__)
  // The kernel refuses a set that is smaller than its own.
  for (int capacity = CPU_SETSIZE; capacity <= 1 << 20; capacity *= 2) {
    const std::size_t bytes = CPU_ALLOC_SIZE(capacity);
    std::vector<char> memory(bytes);
    auto* set = reinterpret_cast<cpu_set_t*>(memory.data());
    if (::sched_getaffinity(0, bytes, set)) continue;
    for (int processor = 0; processor < capacity; ++processor) {
      if (CPU_ISSET_S(static_cast<std::size_t>(processor), bytes, set)) found.push_back(processor);
    }
    break;
  }
#endif
  return found;
}

// What the threads of one core have in common; the processor itself where unknown.
std::string siblings(const std::string& system_root, int processor) {
  std::ifstream file(system_root + "/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                     "/topology/thread_siblings_list");
  std::string list;
  return file >> list ? list : std::to_string(processor);
}

int cores(const std::string& system_root) {
  const std::vector<int> processors = own_processors();
  if (processors.empty()) return static_cast<int>(std::thread::hardware_concurrency());
  std::set<std::string> found;
  for (const int processor : processors) found.insert(siblings(system_root, processor));
  return static_cast<int>(found.size());
}

int control_group_limit(const std::string& system_root) {
  std::ifstream file(system_root + "/sys/fs/cgroup/cpu.max");
  double quota = 0;
  double period = 0;
  if (!(file >> quota >> period) || period <= 0) return INT_MAX;
  return static_cast<int>(std::min<double>(INT_MAX, std::ceil(quota / period)));
}

}  // namespace

extern "C" int32_t sgmf_available_processors(const char* system_root) {
  try {
    const std::string root = system_root ? system_root : "";
    return std::max(1, std::min(cores(root), control_group_limit(root)));
  } catch (const std::exception&) {
    return 1;  // no memory to look
  }
}
