// Content of a package's manifest; mirrors runtime/package/manifest.py, which documents its fields.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "package/spec_json.h"
#include "pipeline/spec.h"

namespace sgmf {

struct FileRecord {
  std::string sha256;
  int64_t size;
};

struct Manifest {
  std::string format_version;
  std::string name;
  std::string created;
  std::string network;
  Spec spec;
  std::optional<int64_t> release;  // its number among those of the same name, if it has one
  std::string reader;              // of the training's scans; empty if the package does not name it
  std::vector<Label> labels;
  std::vector<Region> regions;
  std::map<std::string, std::string> variants;  // name to file
  std::map<std::string, FileRecord> files;
};

constexpr const char* previous_stage_manifest = "previous_stage/manifest.json";

// Reads a manifest without its seal. Throws PackageError: not JSON, an unknown major version, or
// a field that is missing, unknown, of the wrong type or in contradiction to another.
Manifest parse_manifest(const std::string& text);

}  // namespace sgmf
