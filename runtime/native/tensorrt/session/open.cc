#include "tensorrt/session/open.h"

#include "package/engines/engine_cache.h"
#include "pipeline/error.h"
#include "python/interface.h"
#include "system/backend_missing.h"
#include "system/shared_library.h"
#include "tensorrt/session/installed_plugin.h"

namespace sgmf::tensorrt {
namespace {

constexpr const char* backend = "tensorrt";

// As one word of a shell.
std::string quoted(const std::string& word) {
  const std::string plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%_-+=:,./";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? "'\"'\"'" : std::string(1, c);
  return text + "'";
}

Remedy remedy(const Package& package, const std::string& variant) {
  return {"run: sgmf build " + quoted(package.path()) + " --backend " + backend + " --variant " +
              variant,
          "Builder and libsgmf have to share the plugin: use the libsgmf beside the one that sgmf "
          "has, or copy libsgmf_tensorrt.so from there"};
}

EngineKey key_of(const Package& package, const std::string& variant, const Library& library,
                 const cuda::Device& device) {
  const std::string& file = package.manifest().variants.at(variant);
  EngineKey key;
  key.package_sha256 = package.manifest_sha256();
  key.variant = variant;
  key.variant_sha256 = package.manifest().files.at(file).sha256;
  key.builder = backend;
  key.builder_version = library.version();
  key.segmaformer = SGMF_LIBRARY_VERSION;
  if (needs_plugin(package.read(file))) key.plugin_sha256 = load_plugin(library);
  key.cuda = device.driver().version();
  key.driver = cuda::driver_release();
  key.device = device.facts().name;
  key.compute_capability = device.facts().compute_capability;
  return key;
}

// Lets logits be summed on the device if it can; returns where they are.
std::string place_of_sums(Session& session) {
  const std::string place = "the processor: ";
  try {
    // From nowhere else: who can write here could exchange this library as well.
    session.sum_on_device(own_folder() + "/libsgmf_cuda.so");
    return "the device";
  } catch (const BackendMissing& error) {
    return place + error.what();
  } catch (const Error& error) {
    return place + error.what();
  }
}

}  // namespace

Opened open(const Package& package, const std::string& variant, const std::string& library_path) {
  const Library library(library_path);
  const auto device = std::make_shared<const cuda::Device>();
  const cuda::Current current(*device);
  const EngineKey key = key_of(package, variant, library, *device);
  const std::string engine = load_engine(engine_folder(), key, remedy(package, variant));
  auto session =
      std::make_unique<Session>(library, device, engine, interface_of(package.manifest().spec));
  std::string description = "TensorRT " + library.version() + ", " + device->facts().name + ", " +
                            variant + ", batch " + std::to_string(session->batch()) + ", sums on " +
                            place_of_sums(*session);
  return {std::move(session), std::move(description)};
}

}  // namespace sgmf::tensorrt
