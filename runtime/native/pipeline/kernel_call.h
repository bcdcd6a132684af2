// Calls of the C kernels, whose complaints become exceptions.
#pragma once

#include <new>
#include <stdexcept>

#include "../src/parallel.h"

namespace sgmf {

inline void expect_success(const char* complaint) {
  if (!complaint) return;
  if (complaint == out_of_memory) throw std::bad_alloc();
  throw std::logic_error(complaint);
}

}  // namespace sgmf
