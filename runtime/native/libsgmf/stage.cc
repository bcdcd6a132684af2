#include "libsgmf/stage.h"

#include <utility>

#include "libsgmf/status.h"

namespace sgmf::embedding {
namespace {

void check_variant(const Manifest& manifest, const std::string& variant) {
  if (manifest.variants.count(variant)) return;
  std::string names;
  for (const auto& [name, file] : manifest.variants) names += (names.empty() ? "" : ", ") + name;
  throw StatusError(SGMF_INVALID_ARGUMENT,
                    "the package has no variant " + variant + "; it has " + names);
}

}  // namespace

Stage::Stage(std::unique_ptr<const Package> package, const StageOptions& options)
    : package_(std::move(package)),
      options_(options),
      manifest_(package_->manifest()) {
  check(manifest_.spec);
  if (!options_.postprocessing) manifest_.spec.postprocessing.clear();
  check_variant(manifest_, options_.variant);
  network();
}

Network& Stage::network() {
  if (!network_) {
    const Backend open = find_backend(options_.backend);
    OpenNetwork opened = open({*package_, options_.variant, options_.library, options_.threads});
    network_ = std::move(opened.network);
    description_ = std::move(opened.description);
  }
  return *network_;
}

}  // namespace sgmf::embedding
