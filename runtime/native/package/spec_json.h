// The parts of a manifest that specify the work around a network, read from JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "package/typed_json.h"
#include "pipeline/spec.h"

namespace sgmf {

struct Label {
  int32_t value;
  std::string name;

  bool operator==(const Label& other) const { return value == other.value && name == other.name; }
};

struct Region {
  std::string name;
  std::vector<int32_t> labels;
  int32_t value;

  bool operator==(const Region& other) const {
    return name == other.name && labels == other.labels && value == other.value;
  }
};

struct NamedOutput {
  std::vector<Label> labels;
  std::vector<Region> regions;
  bool interpolates_probabilities = false;

  Output values() const;
};

// Each throws PackageError for a field that is missing, unknown or of the wrong type. Of an output,
// values that no label has become -1.
Normalization read_normalization(const Field& field);
Resampling read_resampling(const Field& field);
Preprocessing read_preprocessing(const Field& field);
Tiling read_tiling(const Field& field);
NamedOutput read_output(const Field& field);
std::vector<KeepLargest> read_postprocessing(const Field& field);
PreviousStage read_previous_stage(const Field& field);

}  // namespace sgmf
