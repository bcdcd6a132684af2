#include "package/engines/sealed_store.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "package/engines/engine_error.h"
#include "package/engines/hmac.h"
#include "package/package_error.h"
#include "package/sha256.h"

namespace sgmf {
namespace {

constexpr const char* key_file = "key";
constexpr std::size_t key_bytes = 32;
constexpr int64_t most_record_bytes = 1024 * 1024;
constexpr const char* purpose = "segmaformer sealed file 1\n";

// What stands before and after the seal in the first line.
constexpr std::string_view before = "{\n  \"hmac_sha256\": \"";
constexpr std::string_view after = "\",\n";
constexpr std::size_t digits = 64;

// A record's seal and the text that it vouches for; nothing where there is no seal.
struct Sealed {
  std::string mac;
  std::string text;
};

std::optional<Sealed> split(const std::string& content) {
  const std::size_t end = before.size() + digits + after.size();
  const bool sealed = content.size() >= end && content.compare(0, before.size(), before) == 0 &&
                      content.compare(before.size() + digits, after.size(), after) == 0;
  if (!sealed) return std::nullopt;
  return Sealed{content.substr(before.size(), digits), "{\n" + content.substr(end)};
}

SealedRecord parse(const std::string& text, const std::string& name) {
  const Json document = load_json_object(text, name);
  const Field field(document, name, /*ignore_unknown=*/false);
  field.expect_fields({"name", "size", "sha256", "facts"});
  field.at("facts").mapping();
  return {field.at("name").text(), field.at("size").integer(), field.at("sha256").text(),
          document.at("facts")};
}

}  // namespace

SealedRecord SealedStore::record(const std::string& name) const {
  const std::string place = path() + "/" + name + ".json";
  const auto content = folder_.read(name + ".json", most_record_bytes);
  if (!content) throw EngineError(place + " is missing; build the engine again");
  const auto sealed = split(*content);
  if (!sealed || !same_in_constant_time(hmac_sha256(key(), purpose + sealed->text), sealed->mac)) {
    throw EngineError(place + " does not carry the keyed hash of " + path() + "/" + key_file +
                      ": it was altered, or made elsewhere. Remove it and build again");
  }
  try {
    SealedRecord record = parse(sealed->text, name + ".json");
    if (record.name == name) return record;
    throw EngineError(place + " is the record of " + record.name +
                      ", under another name. Remove it");
  } catch (const PackageError& error) {
    throw EngineError(std::string(error.what()) + "; remove " + place + " and build again");
  }
}

std::string SealedStore::read(const SealedRecord& record) const {
  const std::string place = path() + "/" + record.name;
  const std::string remedy = "it was damaged or exchanged. Remove it and build again";
  auto content = folder_.read(record.name, record.size);
  if (!content) throw EngineError(place + " is missing beside its record; build again");
  const auto found = static_cast<int64_t>(content->size());
  if (found != record.size) {
    throw EngineError(place + " has " + (found > record.size ? "more than " : "") +
                      std::to_string(std::min(found, record.size)) + " bytes; expected " +
                      std::to_string(record.size) + ": " + remedy);
  }
  if (hex_sha256(*content) != record.sha256) {
    throw EngineError(place + " does not have the SHA-256 of its record: " + remedy);
  }
  return std::move(*content);
}

std::vector<std::string> SealedStore::names(const std::string& suffix) const {
  std::vector<std::string> names = folder_.names(suffix + ".json");
  for (std::string& name : names) name.resize(name.size() - 5);
  return names;
}

std::string SealedStore::key() const {
  const std::string place = path() + "/" + key_file;
  auto key = folder_.read(key_file, key_bytes, /*secret=*/true);
  if (!key) {
    throw EngineError(place +
                      " is missing, so nothing here can be checked; remove the engines in " +
                      path() + " and build them again");
  }
  if (key->size() != key_bytes) {
    throw EngineError(place +
                      " is no key of 32 bytes; remove it and the engines beside it, and build "
                      "them again");
  }
  return std::move(*key);
}

}  // namespace sgmf
