#include "package/engines/engine_key.h"

#include "package/sha256.h"

namespace sgmf {
namespace {

using Text = EngineKey::Text;

// A field of text, and what messages call it.
struct Needed {
  const char* name;
  const char* words;
  std::string EngineKey::* value;
};
struct Optional {
  const char* name;
  const char* words;
  Text EngineKey::* value;
};

constexpr Needed needed[] = {
    {"package_sha256", "the package", &EngineKey::package_sha256},
    {"variant", "variant", &EngineKey::variant},
    {"variant_sha256", "the network", &EngineKey::variant_sha256},
    {"builder", "builder", &EngineKey::builder},
    {"builder_version", "the builder's version", &EngineKey::builder_version},
    {"segmaformer", "segmaformer", &EngineKey::segmaformer},
};
constexpr Optional optional[] = {
    {"plugin_sha256", "the plugin library", &EngineKey::plugin_sha256},
    {"cuda", "CUDA", &EngineKey::cuda},
    {"driver", "the driver", &EngineKey::driver},
    {"device", "the device", &EngineKey::device},
    {"compute_capability", "the compute capability", &EngineKey::compute_capability},
    {"target", "the target", &EngineKey::target},
};
constexpr const char* batch = "batch";

std::string said(const Text& value) { return value && !value->empty() ? *value : "none"; }

std::string difference(const char* words, const Text& theirs, const Text& ours) {
  return std::string(words) + " was " + said(theirs) + ", here it is " + said(ours);
}

// Whether the library of version `ours` may call itself `theirs` in Python.
bool is_version_of(const std::string& theirs, const std::string& ours) {
  const std::string numbers = theirs.substr(0, theirs.find(".post"));
  return numbers == ours || numbers == ours.substr(0, ours.rfind('.'));
}

}  // namespace

std::string EngineKey::digest() const {
  Json document;
  for (const Needed& field : needed) document[field.name] = this->*field.value;
  for (const Optional& field : optional) {
    const Text& value = this->*field.value;
    document[field.name] = value ? Json(*value) : Json(nullptr);
  }
  document[sgmf::batch] = batch;
  // Sorted, without blanks and in ASCII, as Python's canonical JSON.
  return hex_sha256(document.dump(-1, ' ', true, Json::error_handler_t::replace));
}

std::vector<std::string> EngineKey::differences(const EngineKey& other) const {
  std::vector<std::string> found;
  for (const Needed& field : needed) {
    const std::string &ours = this->*field.value, &theirs = other.*field.value;
    const bool is_version = field.value == &EngineKey::builder_version;
    const bool same = is_version ? is_version_of(theirs, ours) : ours == theirs;
    if (!same) found.push_back(difference(field.words, theirs, ours));
  }
  for (const Optional& field : optional) {
    const Text &ours = this->*field.value, &theirs = other.*field.value;
    if (ours != theirs) found.push_back(difference(field.words, theirs, ours));
  }
  return found;
}

EngineKey parse_engine_key(const Json& document, const std::string& place) {
  const Field field(document, place, /*ignore_unknown=*/false);
  field.expect_fields(
      {"package_sha256", "variant", "variant_sha256", "builder", "builder_version", "segmaformer"},
      {"plugin_sha256", "cuda", "driver", "device", "compute_capability", "target", batch});
  EngineKey key;
  for (const Needed& each : needed) key.*each.value = field.at(each.name).text();
  for (const Optional& each : optional) {
    if (field.is_set(each.name)) key.*each.value = field.at(each.name).text();
  }
  if (field.has(batch)) {
    const std::vector<Field> counts = field.at(batch).list(key.batch.size());
    for (std::size_t i = 0; i < counts.size(); ++i) key.batch[i] = counts[i].integer();
  }
  return key;
}

}  // namespace sgmf
