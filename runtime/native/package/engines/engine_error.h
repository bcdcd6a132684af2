// Exceptions of reading built engines, beside std::bad_alloc.
#pragma once

#include <stdexcept>

namespace sgmf {

// A built engine cannot be trusted: altered, of another machine, or writable by others.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sgmf
