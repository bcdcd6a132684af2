#include "system/free_memory.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>

namespace sgmf {
namespace {

constexpr double everything = std::numeric_limits<double>::infinity();

// The first number of a file; infinity where there is no file, or it says "max".
double read_number(const char* path) {
  std::ifstream file(path);
  double number = 0;
  return file >> number ? number : everything;
}

double machine_memory() {
  std::ifstream file("/proc/meminfo");
  double kib = 0;
  for (std::string word; file >> word;) {
    if (word == "MemAvailable:" && file >> kib) return kib * 1024;
  }
  return everything;
}

double control_group_memory() {
  const double used = read_number("/sys/fs/cgroup/memory.current");
  const double limit = read_number("/sys/fs/cgroup/memory.max");
  return std::isfinite(limit) && std::isfinite(used) ? std::max(0.0, limit - used) : everything;
}

}  // namespace

int64_t default_budget_bytes() {
  const double available = std::min(machine_memory(), control_group_memory());
  constexpr double most = 1LL << 62;
  return static_cast<int64_t>(std::min(available / 2, most));
}

}  // namespace sgmf
