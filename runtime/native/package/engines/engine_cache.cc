#include "package/engines/engine_cache.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <utility>
#include <vector>

#include "package/engines/engine_error.h"
#include "package/engines/sealed_store.h"
#include "package/package_error.h"
#include "system/backend_missing.h"
#include "system/home_folder.h"

namespace sgmf {
namespace {

constexpr const char* variable = "SGMF_CACHE";
constexpr const char* engine_suffix = ".engine";

void refuse(const std::string& message) { throw EngineError(message); }

struct Known {
  SealedRecord record;
  EngineKey key;
  std::string built;  // as a text that sorts by time
};

Known checked(SealedRecord record) {
  Known engine{std::move(record), {}, {}};
  const std::string& name = engine.record.name;
  const Json& facts = engine.record.facts;
  try {
    const Json none = Json::object();
    engine.key = parse_engine_key(facts.contains("key") ? facts.at("key") : none, name);
    const Field field(facts, name, /*ignore_unknown=*/true);
    field.expect_fields({"built"});
    engine.built = field.at("built").text();
  } catch (const PackageError& error) {
    throw EngineError("the record of " + name + " is of another segmaformer: " + error.what() +
                      ". Remove the engine and build again");
  }
  if (engine.key.digest() + engine_suffix != name) {
    throw EngineError(name + " does not have the name of its key; build it again");
  }
  return engine;
}

// What of this network comes nearest; NULL if there is nothing.
const EngineKey* nearest(const std::vector<Known>& known, const EngineKey& wanted) {
  const EngineKey* found = nullptr;
  std::size_t fewest = SIZE_MAX;
  for (const Known& engine : known) {
    const EngineKey& key = engine.key;
    if (key.builder != wanted.builder || key.variant_sha256 != wanted.variant_sha256) continue;
    const std::size_t count = wanted.differences(key).size();
    if (count < fewest) found = &key;
    fewest = std::min(fewest, count);
  }
  return found;
}

std::string joined(const std::vector<std::string>& differences) {
  std::string text;
  for (const std::string& each : differences) text += (text.empty() ? "" : "; ") + each;
  return text;
}

std::string home() {
  std::string folder = home_folder();
  if (!folder.empty()) return folder;
  throw EngineError("this user has no home folder for engines; set SGMF_CACHE to a folder");
}

}  // namespace

std::string engine_folder() {
  const char* named = std::getenv(variable);
  if (!named || !*named) return home() + "/.cache/segmaformer/engines";
  const std::string folder = named;
  if (folder[0] != '~') return folder;
  if (folder.size() == 1 || folder[1] == '/') return home() + folder.substr(1);
  throw EngineError("SGMF_CACHE is " + folder + "; expected a path without another user's ~");
}

std::string load_engine(const std::string& folder, const EngineKey& wanted, const Remedy& remedy) {
  const std::string none = "there is no " + wanted.builder + " engine of variant " +
                           wanted.variant + " for this package";
  auto opened = PrivateFolder::open(folder, {variable, refuse});
  if (!opened) throw BackendMissing(none + " in " + folder + "; " + remedy.command);
  const SealedStore store(std::move(*opened));
  std::exception_ptr complaint;
  std::vector<Known> known;
  for (const std::string& name : store.names(engine_suffix)) {
    try {
      known.push_back(checked(store.record(name)));
    } catch (const EngineError&) {
      if (!complaint) complaint = std::current_exception();
    }
  }
  const Known* latest = nullptr;
  for (const Known& engine : known) {
    if (!wanted.differences(engine.key).empty()) continue;
    if (!latest || engine.built > latest->built) latest = &engine;
  }
  if (latest) return store.read(latest->record);
  if (complaint) std::rethrow_exception(complaint);
  const std::string where = " in " + store.path() + "; " + remedy.command;
  const EngineKey* other = nearest(known, wanted);
  if (!other) throw BackendMissing(none + where);
  const bool other_plugin = other->plugin_sha256 != wanted.plugin_sha256;
  throw BackendMissing(none + " and this machine (" + joined(wanted.differences(*other)) + ")" +
                       where + (other_plugin ? ". " + remedy.plugin : ""));
}

}  // namespace sgmf
