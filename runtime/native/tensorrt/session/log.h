// TensorRT's log, for plugins.
#pragma once

namespace sgmf::tensorrt {

// Writes to the log of the engine that called; nowhere where TensorRT has given no log.
void log_error(const char* text) noexcept;

}  // namespace sgmf::tensorrt
