// Inputs and outputs of a network, for any backend.
#pragma once

#include <cstdint>

#include "pipeline/spec.h"

namespace sgmf {

// Channels and extents behind the batch, float32.
struct Interface {
  int64_t inputs;
  int64_t outputs;
  Triple tile;
};

inline Interface interface_of(const Spec& spec) {
  return {spec.image_channels(), spec.output.channels(), spec.tiling.tile};
}

}  // namespace sgmf
