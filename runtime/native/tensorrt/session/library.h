// libnvinfer, found and loaded at run time: nothing is linked to it. Its headers are those that
// this was built with.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <memory>
#include <string>

#include "system/shared_library.h"

namespace sgmf::tensorrt {

class Library {
 public:
  // Loads the library at `path`, or the one that SGMF_TENSORRT names. If neither is set: that of
  // the Python environment in which this code is installed, of the one in VIRTUAL_ENV, then the
  // system's. Throws BackendMissing: none loads, or it is of another version.
  explicit Library(const std::string& path);

  // With the build, such as 10.3.0.26.
  std::string version() const;

  // Throws Error(backend): TensorRT does not start on this machine.
  std::unique_ptr<nvinfer1::IRuntime> create_runtime() const;
  // Throws Error(backend): it has none.
  nvinfer1::IPluginRegistry& registry() const;

 private:
  void check_version() const;

  SharedLibrary library_;
  std::array<int32_t, 4> version_;  // major, minor, patch, build
};

}  // namespace sgmf::tensorrt
