// Exceptions of opening a package, beside std::bad_alloc.
#pragma once

#include <stdexcept>

namespace sgmf {

// The package is damaged, incomplete, altered or of an unknown version.
struct PackageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// There is nothing at the path.
struct PackageNotFound : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sgmf
