// What TensorRT asks of a library of plugins, and the log that it lends.
#include <NvInfer.h>

#include <atomic>

#include "kernels/interface/selective_scan.h"
#include "tensorrt/plugin/selective_scan_plugin.h"
#include "tensorrt/session/log.h"

namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

namespace sgmf::tensorrt {

void log_error(const char* text) noexcept {
  nvinfer1::ILoggerFinder* finder = logger_finder;
  if (nvinfer1::ILogger* logger = finder ? finder->findLogger() : nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, text);
  }
}

}  // namespace sgmf::tensorrt

extern "C" SGMF_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  logger_finder = finder;
}

extern "C" SGMF_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static sgmf::tensorrt::SelectiveScanCreator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}
