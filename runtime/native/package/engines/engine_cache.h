// Built engines, as `sgmf build` keeps them for this user on this machine. Mirrors the reading half
// of runtime/engines/cache.py: no engine is taken because it is the nearest there is.
#pragma once

#include <string>

#include "package/engines/engine_key.h"

namespace sgmf {

// $SGMF_CACHE, or ~/.cache/segmaformer/engines. Throws EngineError where neither is known.
std::string engine_folder();

// What makes a missing engine.
struct Remedy {
  std::string command;
  // Said beside it where the plugin libraries differ.
  std::string plugin;
};

// Bytes of the engine for `wanted`, whatever its batch; of the latest if there are several.
//
// Throws BackendMissing: there is none; where there is one for another device, driver or version,
// the message says what differs. Throws EngineError: what there is was altered, cut short, made
// elsewhere or is in others' reach.
std::string load_engine(const std::string& folder, const EngineKey& wanted, const Remedy& remedy);

}  // namespace sgmf
