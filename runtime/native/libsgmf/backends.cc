#include "libsgmf/backends.h"

#include "libsgmf/status.h"
#include "onnxruntime/self_contained.h"
#include "onnxruntime/session/session.h"
#include "package/package_error.h"
#include "python/interface.h"
#ifdef SGMF_HAS_TENSORRT
#include "tensorrt/session/open.h"
#endif

namespace sgmf::embedding {
namespace {

OpenNetwork open_onnxruntime(const NetworkRequest& request) {
  const Manifest& manifest = request.package.manifest();
  const std::string& file = manifest.variants.at(request.variant);
  const std::string network = request.package.read(file);
  if (const auto reason = onnxruntime::reason_to_refuse(network)) {
    throw PackageError(request.package.path() + "/" + file + " " + *reason +
                       "; such a package is not of sgmf export: do not run it");
  }
  const onnxruntime::Library library(request.library);
  auto session = std::make_unique<onnxruntime::Session>(
      library, network, interface_of(manifest.spec), request.threads);
  const std::string threads =
      std::to_string(request.threads) + (request.threads > 1 ? " threads" : " thread");
  return {std::move(session), "ONNX Runtime " + std::string(library.version()) + ", CPU, " +
                                  request.variant + ", " + threads};
}

#ifdef SGMF_HAS_TENSORRT
OpenNetwork open_tensorrt(const NetworkRequest& request) {
  tensorrt::Opened opened = tensorrt::open(request.package, request.variant, request.library);
  return {std::move(opened.session), std::move(opened.description)};
}
#else
constexpr Backend open_tensorrt = nullptr;
#endif

struct Entry {
  const char* name;
  Backend open;            // NULL: not built
  const char* to_have_it;  // what to do then
};

const Entry backends[] = {
    {"onnxruntime", open_onnxruntime, ""},
    {"tensorrt", open_tensorrt,
     "was built without TensorRT's headers; build it with SGMF_CUDA=ON where CMake finds NvInfer.h "
     "and cuda_runtime_api.h (TENSORRT_INCLUDE_DIR), or use the backend onnxruntime"},
};

}  // namespace

Backend find_backend(const std::string& name) {
  std::string known;
  for (const Entry& entry : backends) {
    known += (known.empty() ? "" : " and ") + std::string(entry.name);
    if (name != entry.name) continue;
    if (entry.open) return entry.open;
    throw StatusError(SGMF_BACKEND_MISSING, std::string("this libsgmf ") + entry.to_have_it);
  }
  throw StatusError(SGMF_BACKEND_MISSING, "there is no backend \"" + name +
                                              "\" in libsgmf; it has " + known +
                                              ". Other backends are those of the Python package "
                                              "segmaformer");
}

}  // namespace sgmf::embedding
