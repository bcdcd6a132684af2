#include "tensorrt/session/installed_plugin.h"

#include <fstream>
#include <mutex>
#include <set>
#include <sstream>

#include "package/sha256.h"
#include "pipeline/error.h"
#include "system/backend_missing.h"
#include "tensorrt/session/log_listener.h"

namespace sgmf::tensorrt {
namespace {

constexpr const char* name = "SelectiveScan";
constexpr const char* version = "1";
constexpr const char* name_space = "segmaformer";
constexpr const char* file_name = "/libsgmf_tensorrt.so";

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (file && content << file.rdbuf()) return content.str();
  throw BackendMissing("the network holds selective scans, and TensorRT's plugin for them, " +
                       path +
                       ", is not there. Build libsgmf where nvcc and TensorRT's headers are found, "
                       "and install it whole");
}

// TensorRT reports it as an error to load a plugin twice, or to ask for one that is not there.
void register_once(const Library& library, const std::string& path) {
  static std::mutex mutex;
  static std::set<const nvinfer1::IPluginRegistry*> done;
  const std::lock_guard<std::mutex> lock(mutex);
  nvinfer1::IPluginRegistry& registry = library.registry();
  if (done.count(&registry)) return;
  const auto runtime = library.create_runtime();  // from which on TensorRT has the log
  const LogListener listener;
  if (!registry.loadLibrary(path.c_str()) && !registry.getCreator(name, version, name_space)) {
    throw Error(ErrorCode::backend,
                "TensorRT " + library.version() + " cannot load the plugin " + path + ": " +
                    listener.errors() +
                    ". Build libsgmf on this machine, so that the plugin is for this TensorRT");
  }
  done.insert(&registry);
}

}  // namespace

bool needs_plugin(const std::string& network) { return network.find(name) != std::string::npos; }

std::string load_plugin(const Library& library) {
  // From nowhere else: who can write here could exchange this library as well.
  const std::string path = own_folder() + file_name;
  std::string digest = hex_sha256(content_of(path));
  register_once(library, path);
  return digest;
}

}  // namespace sgmf::tensorrt
