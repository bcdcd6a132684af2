// What reading built engines throws, beside std::bad_alloc.
#pragma once

#include <stdexcept>

namespace sgmf {

// A built engine is not to be trusted: altered, not of this machine, or in others' reach.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sgmf
