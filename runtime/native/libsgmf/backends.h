// What runs networks, by name: the one place that knows them all.
#pragma once

#include <memory>
#include <string>

#include "package/package.h"
#include "pipeline/tiles/network.h"

namespace sgmf::embedding {

// What a backend opens.
struct NetworkRequest {
  const Package& package;
  std::string variant;  // one that the package has
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
