// What a manifest says that is well-formed and yet cannot be meant.
#pragma once

#include "package/manifest.h"

namespace sgmf {

// Throws PackageError with all that contradicts itself. The output's values in the specification
// are not looked at.
void check_manifest(const Manifest& manifest);

}  // namespace sgmf
