// Files with a keyed hash, which shows that the user's own program wrote them. Mirrors the reading
// half of runtime/engines/sealed_store.py, which describes the format.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "package/private_folder.h"
#include "package/typed_json.h"

namespace sgmf {

// Content of NAME.json: size, SHA-256 and facts of the file NAME.
struct SealedRecord {
  std::string name;
  int64_t size;
  std::string sha256;
  Json facts;
};

class SealedStore {
 public:
  explicit SealedStore(PrivateFolder folder) : folder_(std::move(folder)) {}

  const std::string& path() const { return folder_.path(); }

  // The checked record of a file. Throws EngineError: it is missing, does not carry this user's
  // seal, or is that of another file.
  SealedRecord record(const std::string& name) const;

  // Reads the file that `record` describes; returns the very bytes that were checked. Throws
  // EngineError: it is missing, cut short, or differs from its record.
  std::string read(const SealedRecord& record) const;

  // Names of sealed files that end in `suffix`, checked or not.
  std::vector<std::string> names(const std::string& suffix) const;

 private:
  std::string key() const;

  PrivateFolder folder_;
};

}  // namespace sgmf
