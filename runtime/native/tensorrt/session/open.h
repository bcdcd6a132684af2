// Opening of a session: the engine that `sgmf build` made of a package for this machine.
#pragma once

#include <memory>
#include <string>

#include "package/package.h"
#include "tensorrt/session/session.h"

namespace sgmf::tensorrt {

struct Opened {
  std::unique_ptr<Session> session;
  std::string description;  // version, device, variant, batch and where logits are summed
};

// `library` is the path of libnvinfer, or empty. Throws BackendMissing: there is no library,
// driver, device, plugin or engine. Throws EngineError: the engine does not pass its trust checks.
// Throws Error(backend): it does not run.
Opened open(const Package& package, const std::string& variant, const std::string& library);

}  // namespace sgmf::tensorrt
