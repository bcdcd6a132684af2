// Calls of the C kernels, whose error texts become exceptions.
#pragma once

#include <new>
#include <stdexcept>

#include "kernels/finite.h"
#include "kernels/parallel.h"
#include "pipeline/error.h"

namespace sgmf {

inline void expect_success(const char* complaint) {
  if (!complaint) return;
  if (complaint == out_of_memory) throw std::bad_alloc();
  if (complaint == not_finite) throw Error(ErrorCode::backend, complaint);
  throw std::logic_error(complaint);
}

}  // namespace sgmf
