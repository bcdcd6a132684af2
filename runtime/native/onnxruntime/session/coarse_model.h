// Removal of the upsampling at the end of a network.
//
// Logits that a network enlarges by whole factors at its end are many times the size of those it
// computed. The pipeline enlarges them itself, plane by plane when logits are used: then those of a
// whole tile are never in memory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sgmf::onnxruntime {

struct CoarseModel {
  std::string model;              // serialised, with the coarse logits as its output
  std::array<int64_t, 3> scales;  // from them to the logits
};

// `model` without its last node, if that is the op Upsample, gives the only output, and the shape
// of its input is recorded. Otherwise, and if `model` cannot be read, nothing.
std::optional<CoarseModel> without_last_upsampling(std::string_view model);

}  // namespace sgmf::onnxruntime
