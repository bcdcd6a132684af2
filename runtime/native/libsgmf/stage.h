// One network of a package, its use, and its session: open, or closed to free its memory.
#pragma once

#include <memory>
#include <string>

#include "libsgmf/backends.h"
#include "package/package.h"
#include "pipeline/tiles/network.h"

namespace sgmf::embedding {

// How networks are opened.
struct StageOptions {
  std::string backend;
  std::string variant;
  std::string library;  // path of the backend's library, or empty
  int threads;
  bool postprocessing;
};

class Stage {
 public:
  // Opens the network. Throws the exceptions that current_status converts.
  Stage(std::unique_ptr<const Package> package, const StageOptions& options);

  // That of the package, without the postprocessing that is not wanted.
  const Manifest& manifest() const { return manifest_; }
  const std::string& description() const { return description_; }
  // Opened if it is closed.
  Network& network();
  // To count memory, not to run: opened only if a closed one cannot tell.
  Network& planned_network();
  void close() { network_.reset(); }

 private:
  std::unique_ptr<const Package> package_;
  StageOptions options_;
  Manifest manifest_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Network> outline_;  // what is known of it once it was opened; none with a device
  std::string description_;
};

}  // namespace sgmf::embedding
