// Backends by name: the one place that knows them all.
#pragma once

#include <memory>
#include <string>

#include "package/package.h"
#include "pipeline/tiles/network.h"

namespace sgmf::embedding {

// Description of the network to open.
struct NetworkRequest {
  const Package& package;
  std::string variant;  // one of the package's variants
  std::string library;  // path of the backend's library, or empty
  int threads;
};

struct OpenNetwork {
  std::unique_ptr<Network> network;
  std::string description;  // the backend with its version, device, variant and threads or batch
};

using Backend = OpenNetwork (*)(const NetworkRequest& request);

// Throws StatusError: there is no such backend here.
Backend find_backend(const std::string& name);

}  // namespace sgmf::embedding
