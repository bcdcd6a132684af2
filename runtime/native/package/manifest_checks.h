// Checks for well-formed manifests that make no sense.
#pragma once

#include "package/manifest.h"

namespace sgmf {

// Throws PackageError with all contradictions. The output's values in the specification are not
// checked.
void check_manifest(const Manifest& manifest);

}  // namespace sgmf
