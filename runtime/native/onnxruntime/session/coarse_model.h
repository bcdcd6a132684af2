// Networks that end with an upsampling of their logits, without it.
//
// Logits that a network makes larger by whole factors at its very end are many times what it
// computed. The pipeline does that better itself, plane by plane where logits are used: then those
// of a whole tile are never in memory.
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
// of what it takes is noted. Otherwise, and where `model` cannot be read, nothing.
std::optional<CoarseModel> without_last_upsampling(std::string_view model);

}  // namespace sgmf::onnxruntime
