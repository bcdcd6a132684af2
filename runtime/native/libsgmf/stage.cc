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

// What plans ask of a network that is closed.
class Outline : public Network {
 public:
  Outline(const Network& of, const Triple& tile)
      : logits_shape_(of.logits_shape(tile)),
        tiles_at_once_(of.tiles_at_once()),
        overlap_(of.overlap()),
        lends_(of.lends()) {}

  Triple logits_shape(const Triple& /*tile*/) const override { return logits_shape_; }
  int64_t tiles_at_once() const override { return tiles_at_once_; }
  bool overlap() const override { return overlap_; }
  bool lends() const override { return lends_; }
  void run(const float* /*tiles*/, int64_t /*count*/, float* /*logits*/) override {
    throw StatusError(SGMF_DEFECT, "a network that is closed was run");
  }

 private:
  Triple logits_shape_;
  int64_t tiles_at_once_;
  bool overlap_;
  bool lends_;
};

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
    if (!network_->device()) {
      outline_ = std::make_unique<Outline>(*network_, manifest_.spec.tiling.tile);
    }
  }
  return *network_;
}

Network& Stage::planned_network() { return !network_ && outline_ ? *outline_ : network(); }

}  // namespace sgmf::embedding
