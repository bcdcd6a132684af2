// Postprocessing of a finished label map on the scan's grid.
#pragma once

#include <functional>
#include <vector>

#include "pipeline/geometry/volume.h"
#include "pipeline/spec.h"

namespace sgmf {

// Memory that it takes beside the label map at most, whatever the labels; none without steps.
int64_t postprocessing_bytes(const std::vector<KeepLargest>& steps, const Triple& shape);

// Applies each step, in order. `cancelled` is asked before each; true stops with Error(cancelled).
void postprocess(const LabelBuffer& labels, const Triple& shape,
                 const std::vector<KeepLargest>& steps, const std::function<bool()>& cancelled);

}  // namespace sgmf
