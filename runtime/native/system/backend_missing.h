// What is thrown where a backend cannot run for want of something.
#pragma once

#include <stdexcept>

namespace sgmf {

// A backend's library, driver, device or engine is not there, or is of another version.
struct BackendMissing : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sgmf
