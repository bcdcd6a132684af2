// Built engines, as `sgmf build` keeps them for this user on this machine. Mirrors the reading half
// of runtime/engines/cache.py: the nearest engine is never run instead of the right one.
#pragma once

#include <string>

#include "package/engines/engine_key.h"

namespace sgmf {

// $SGMF_CACHE, or ~/.cache/segmaformer/engines. Throws EngineError where neither is known.
std::string engine_folder();

// Command that builds a missing engine.
struct Remedy {
  std::string command;
  // Hint that is added if the plugin libraries differ.
  std::string plugin;
};

// Bytes of the engine for `wanted`, whatever its batch; of the latest if there are several.
//
// Throws BackendMissing: there is none; if there is one for another device, driver or version, the
// message states the difference. Throws EngineError: the engine was altered, cut short, made
// elsewhere, or others can write it.
std::string load_engine(const std::string& folder, const EngineKey& wanted, const Remedy& remedy);

}  // namespace sgmf
