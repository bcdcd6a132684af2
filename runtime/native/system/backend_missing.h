// Exception for a backend that lacks something to run.
#pragma once

#include <stdexcept>

namespace sgmf {

// A backend's library, driver, device or engine is missing, or of another version.
struct BackendMissing : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sgmf
