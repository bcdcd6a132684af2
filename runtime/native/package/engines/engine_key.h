// Everything that an engine depends on. Mirrors EngineKey of runtime/engines/cache.py, which
// documents the fields.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "package/typed_json.h"

namespace sgmf {

struct EngineKey {
  using Text = std::optional<std::string>;

  std::string package_sha256;
  std::string variant;
  std::string variant_sha256;
  std::string builder;
  std::string builder_version;
  std::string segmaformer;
  Text plugin_sha256;
  Text cuda;
  Text driver;
  Text device;
  Text compute_capability;
  Text target;
  std::array<int64_t, 3> batch{1, 1, 1};

  // SHA-256 over canonical JSON of all fields, in hexadecimal.
  std::string digest() const;

  // Describes each field in which `other` differs; batches may. This key's builder_version has four
  // numbers, as the library gives them; that of a key written by Python may lack the last and have
  // a suffix of packaging, such as 10.13.3.9.post1.
  std::vector<std::string> differences(const EngineKey& other) const;
};

// Reads a key. Throws PackageError: a field is missing, unknown or of the wrong type.
EngineKey parse_engine_key(const Json& document, const std::string& place);

}  // namespace sgmf
