#include "library.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <vector>

namespace sgmf::onnxruntime {
namespace {

constexpr const char* variable = "SGMF_ONNXRUNTIME";
constexpr const char* telemetry_variable = "ORT_DISABLE_TELEMETRY";
constexpr const char* remedy =
    "install ONNX Runtime 1.18 or later (pip install onnxruntime, or your system's "
    "libonnxruntime) and name its libonnxruntime.so in backend_library or SGMF_ONNXRUNTIME";

using Paths = std::vector<std::string>;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

void add_matches(const std::string& pattern, Paths& paths) {
  glob_t found{};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
}

// site-packages/segmaformer/runtime/lib holds this code where Python installed it.
void add_own_environment(Paths& paths) {
  Dl_info self{};
  if (!::dladdr(reinterpret_cast<const void*>(&add_own_environment), &self)) return;
  const std::string file = self.dli_fname ? self.dli_fname : "";
  const std::string inside = "/segmaformer/runtime/lib/";
  const std::size_t end = file.rfind(inside);
  if (end == std::string::npos) return;
  add_matches(file.substr(0, end) + "/onnxruntime/capi/libonnxruntime.so*", paths);
}

Paths usual_places() {
  Paths paths;
  add_own_environment(paths);
  const std::string environment_root = environment("VIRTUAL_ENV");
  if (!environment_root.empty()) {
    add_matches(
        environment_root + "/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*",
        paths);
  }
  paths.emplace_back("libonnxruntime.so.1");
  paths.emplace_back("libonnxruntime.so");
  return paths;
}

const ort::ApiBase* load(const std::string& path, std::string& tried) {
  // Its threads and the objects of its own statics outlive any unloading: it stays.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    const char* why = ::dlerror();
    tried += (tried.empty() ? "" : "; ") + std::string(why ? why : path);
    return nullptr;
  }
  using GetApiBase = const ort::ApiBase* (*)();
  const auto get = reinterpret_cast<GetApiBase>(::dlsym(library, "OrtGetApiBase"));
  if (!get) tried += (tried.empty() ? "" : "; ") + path + " is not ONNX Runtime";
  return get ? get() : nullptr;
}

const ort::ApiBase* find(const std::string& path) {
  ::setenv(telemetry_variable, "1", 0);
  const std::string given = path.empty() ? environment(variable) : path;
  std::string tried;
  for (const std::string& place : given.empty() ? usual_places() : Paths{given}) {
    if (const ort::ApiBase* base = load(place, tried)) return base;
  }
  const std::string from = given.empty() ? "" : path.empty() ? " of SGMF_ONNXRUNTIME" : " given";
  throw LibraryMissing("the ONNX Runtime" + from + " cannot be loaded: " + tried + ". " + remedy);
}

}  // namespace

Library::Library(const std::string& path)
    : base_(find(path)),
      table_(base_->GetApi(ort::api_version)) {
  if (table_) return;
  throw LibraryMissing("ONNX Runtime " + std::string(version()) + " is too old; " + remedy);
}

bool Library::keeps_quiet() const { return environment(telemetry_variable) != "0"; }

}  // namespace sgmf::onnxruntime
