#include "tensorrt/session/library.h"

#include <cstdint>

#include "pipeline/error.h"
#include "system/backend_missing.h"
#include "tensorrt/session/log_listener.h"

namespace sgmf::tensorrt {
namespace {

constexpr int headers_major = NV_TENSORRT_MAJOR;
constexpr int oldest_minor_of_10 = 3;
// runtime/backends/tensorrt/library.py knows the same.
static_assert(headers_major == 11 ||
                  (headers_major == 10 && NV_TENSORRT_MINOR >= oldest_minor_of_10),
              "expected the headers of TensorRT 10.3 or newer and below 12");

const std::string file_name = "libnvinfer.so." + std::to_string(headers_major);

std::string remedy() {
  const std::string wanted = headers_major == 10 ? "10.3 or a later 10" : "11";
  return "Install TensorRT " + wanted +
         " (on a Jetson it comes with JetPack, elsewhere from NVIDIA or by pip install tensorrt) "
         "and name its " +
         file_name + " in backend_library or SGMF_TENSORRT";
}

LibrarySearch search(const std::string& path) {
  LibrarySearch search;
  search.what = "TensorRT";
  search.given = path;
  search.variable = "SGMF_TENSORRT";
  search.usual = in_python_environments("/tensorrt_libs/" + file_name);
  search.usual.push_back(file_name);
  search.entry = "createInferRuntime_INTERNAL";
  search.remedy = remedy();
  return search;
}

int32_t part_of_version(const SharedLibrary& library, const char* function) {
  const auto get = library.function<int32_t (*)()>(function);
  return get ? get() : 0;
}

}  // namespace

Library::Library(const std::string& path)
    : library_(search(path)),
      version_{part_of_version(library_, "getInferLibMajorVersion"),
               part_of_version(library_, "getInferLibMinorVersion"),
               part_of_version(library_, "getInferLibPatchVersion"),
               part_of_version(library_, "getInferLibBuildVersion")} {
  check_version();
  // TensorRT keeps the log listener, which is code of this library.
  stay_loaded();
}

void Library::check_version() const {
  const auto [major, minor, patch, build] = version_;
  if (major == headers_major && (major > 10 || minor >= oldest_minor_of_10)) return;
  throw BackendMissing("the library is TensorRT " + version() +
                       "; this libsgmf was built with the headers of TensorRT " +
                       std::to_string(headers_major) + ". " + remedy());
}

std::string Library::version() const {
  std::string text;
  for (const int32_t part : version_) text += (text.empty() ? "" : ".") + std::to_string(part);
  return text;
}

std::unique_ptr<nvinfer1::IRuntime> Library::create_runtime() const {
  using Create = void* (*)(void* logger, int32_t version);
  const auto create = library_.function<Create>("createInferRuntime_INTERNAL");
  const LogListener listener;
  void* created = create(&log(), NV_TENSORRT_VERSION);
  // TensorRT 11.4, seen in its lean runtime, returns NULL plus an offset when it fails.
  constexpr uintptr_t first_page = 4096;
  if (reinterpret_cast<uintptr_t>(created) >= first_page) {
    return std::unique_ptr<nvinfer1::IRuntime>(static_cast<nvinfer1::IRuntime*>(created));
  }
  throw Error(ErrorCode::backend, "TensorRT " + version() +
                                      " cannot start here: " + listener.errors() +
                                      ". Its CUDA may be newer than the driver");
}

nvinfer1::IPluginRegistry& Library::registry() const {
  const auto get = library_.function<nvinfer1::IPluginRegistry* (*)()>("getPluginRegistry");
  nvinfer1::IPluginRegistry* registry = get ? get() : nullptr;
  if (registry) return *registry;
  throw Error(ErrorCode::backend, "TensorRT " + version() + " has no registry of plugins");
}

}  // namespace sgmf::tensorrt
