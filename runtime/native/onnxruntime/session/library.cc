#include "onnxruntime/session/library.h"

#include <cstdlib>
#include <string>

#include "system/backend_missing.h"
#include "system/shared_library.h"

namespace sgmf::onnxruntime {
namespace {

constexpr const char* telemetry_variable = "ORT_DISABLE_TELEMETRY";
constexpr const char* entry = "OrtGetApiBase";
constexpr const char* remedy =
    "install ONNX Runtime 1.18 or later (pip install onnxruntime, or your system's "
    "libonnxruntime) and name its libonnxruntime.so in backend_library or SGMF_ONNXRUNTIME";

const ort::ApiBase* find(const std::string& path) {
  ::setenv(telemetry_variable, "1", 0);
  LibrarySearch search;
  search.what = "ONNX Runtime";
  search.given = path;
  search.variable = "SGMF_ONNXRUNTIME";
  search.usual = in_python_environments("/onnxruntime/capi/libonnxruntime.so*");
  search.usual.insert(search.usual.end(), {"libonnxruntime.so.1", "libonnxruntime.so"});
  search.entry = entry;
  search.remedy = remedy;
  return SharedLibrary(search).function<const ort::ApiBase* (*)()>(entry)();
}

}  // namespace

Library::Library(const std::string& path)
    : base_(find(path)),
      table_(base_->GetApi(ort::api_version)) {
  if (table_) return;
  throw BackendMissing("ONNX Runtime " + std::string(version()) + " is too old; " + remedy);
}

bool Library::keeps_quiet() const {
  const char* value = std::getenv(telemetry_variable);
  return !value || std::string(value) != "0";
}

}  // namespace sgmf::onnxruntime
