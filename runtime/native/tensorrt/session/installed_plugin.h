// This project's plugin, libsgmf_tensorrt, as it was installed beside this library.
#pragma once

#include <string>

#include "tensorrt/session/library.h"

namespace sgmf::tensorrt {

// Whether a network needs the plugin.
bool needs_plugin(const std::string& network);

// Registers it with TensorRT, once in a process, and returns the SHA-256 of its file; a device is
// current. Throws BackendMissing: it is not installed. Throws Error(backend): TensorRT does not
// load it.
std::string load_plugin(const Library& library);

}  // namespace sgmf::tensorrt
