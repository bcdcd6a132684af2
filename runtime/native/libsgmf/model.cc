#include "libsgmf/model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "kernels/parallel.h"
#include "libsgmf/backends.h"
#include "libsgmf/buffers.h"
#include "package/package.h"
#include "pipeline/geometry/box.h"
#include "system/free_memory.h"

namespace sgmf::embedding {
namespace {

constexpr int64_t mib = 1024 * 1024;
constexpr int most_threads = 1024;

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

[[noreturn]] void refuse(const std::string& text) {
  throw StatusError(SGMF_INVALID_ARGUMENT, text);
}

std::string text_or(const char* given, const char* fallback) { return given ? given : fallback; }

int checked_threads(int32_t threads) {
  if (threads < 0 || threads > most_threads) {
    refuse("threads is " + std::to_string(threads) + "; expected 1 to " +
           std::to_string(most_threads) + ", or 0 for every processor");
  }
  return threads > 0 ? threads : available_threads();
}

int64_t checked_budget(int64_t budget_mib) {
  if (budget_mib < 0 || budget_mib > INT64_MAX / mib) {
    refuse("memory_budget_mib is " + std::to_string(budget_mib) +
           "; expected MiB, or 0 for half of the free memory");
  }
  return budget_mib > 0 ? budget_mib * mib : default_budget_bytes();
}

void check_variant(const Manifest& manifest, const std::string& variant) {
  if (manifest.variants.count(variant)) return;
  std::string names;
  for (const auto& [name, file] : manifest.variants) names += (names.empty() ? "" : ", ") + name;
  refuse("the package has no variant " + variant + "; it has " + names);
}

// Asks the caller's function. What it throws must not pass through code in other languages.
bool go_on(const sgmf_run_options& options, int64_t done, int64_t count) {
  if (!options.progress) return true;
  try {
    return options.progress(options.user_data, done, count) == 0;
  } catch (...) {
    refuse("the progress callback threw an exception; it must return 0 or another number");
  }
}

int32_t to_c(bool fits_uint8) { return fits_uint8 ? SGMF_UINT8 : SGMF_UINT16; }

}  // namespace

Model::Model(const sgmf_open_options& options)
    : threads_(checked_threads(options.threads)),
      budget_bytes_(checked_budget(options.memory_budget_mib)),
      mirror_(options.mirror != 0),
      variant_(text_or(options.variant, "fp32")) {
  const Stopwatch watch;
  if (!options.package_path || !*options.package_path) {
    refuse("package_path is NULL or empty; expected the folder of a package");
  }
  const Backend backend = find_backend(text_or(options.backend, "onnxruntime"));
  const Package package(options.package_path);
  manifest_ = package.manifest();
  check(manifest_.spec);
  if (options.without_postprocessing != 0) manifest_.spec.postprocessing.clear();
  check_variant(manifest_, variant_);
  OpenNetwork opened = backend({package, variant_, text_or(options.backend_library, ""), threads_});
  network_ = std::move(opened.network);
  backend_ = std::move(opened.description);
  statistics_.open_seconds = watch.seconds();
}

sgmf_info Model::info() const {
  const Spec& spec = manifest_.spec;
  sgmf_info info{};
  info.inputs = static_cast<int32_t>(spec.preprocessing.channels.size());
  info.labels = static_cast<int32_t>(manifest_.labels.size());
  info.regions = static_cast<int32_t>(manifest_.regions.size());
  info.label_type = to_c(spec.output.largest_value() <= UINT8_MAX);
  info.threads = threads_;
  info.memory_budget_bytes = budget_bytes_;
  const Spacing spacing = spec.preprocessing.spacing_mm.value_or(Spacing{});
  for (std::size_t i = 0; i < 3; ++i) {
    info.tile[i] = spec.tiling.tile[i];
    info.spacing_mm[i] = std::isnan(spacing[i]) ? 0 : spacing[i];
  }
  info.name = manifest_.name.c_str();
  info.network = manifest_.network.c_str();
  info.created = manifest_.created.c_str();
  info.format_version = manifest_.format_version.c_str();
  info.variant = variant_.c_str();
  info.backend = backend_.c_str();
  info.reader = manifest_.reader.empty() ? nullptr : manifest_.reader.c_str();
  return info;
}

SegmentOptions Model::segment_options() const {
  SegmentOptions options;
  options.budget_bytes = budget_bytes_;
  options.threads = threads_;
  options.mirror = mirror_;
  return options;
}

void Model::check_channels(const sgmf_volume& volume) const {
  const auto& names = manifest_.spec.preprocessing.channels;
  if (volume.channels == static_cast<int64_t>(names.size())) return;
  std::string expected;
  for (const std::string& name : names) expected += (expected.empty() ? "" : ", ") + name;
  throw StatusError(SGMF_INPUT_REFUSED, "the volume has " + std::to_string(volume.channels) +
                                            " channels; the model expects " +
                                            std::to_string(names.size()) +
                                            ", in this order: " + expected);
}

void Model::run(const sgmf_volume& volume, const sgmf_labels& labels,
                const sgmf_run_options& options) {
  check_channels(volume);
  const Volume voxels = to_volume(volume);
  const LabelBuffer buffer = to_label_buffer(labels, volume, manifest_.spec.output.largest_value());
  cancelled_ = false;
  SegmentOptions settings = segment_options();
  settings.cancelled = [this] { return cancelled_.load(); };
  settings.progress = [&](int64_t done, int64_t count) {
    return !cancelled_ && go_on(options, done, count);
  };
  const SegmentStatistics found =
      segment(voxels, manifest_.spec, *network_, buffer, settings, workspace_);
  statistics_.preprocess_seconds = found.preprocess_seconds;
  statistics_.network_seconds = found.network_seconds;
  statistics_.labels_seconds =
      found.total_seconds - found.preprocess_seconds - found.network_seconds;
  statistics_.total_seconds = found.total_seconds;
  statistics_.tiles = found.tiles;
  statistics_.on_device = found.on_device;
  statistics_.peak_bytes = found.peak_bytes;
}

void Model::warm_up() {
  const Stopwatch watch;
  const Spec& spec = manifest_.spec;
  const int64_t count = network_->tiles_at_once();
  const int64_t voxels = count * voxel_count(spec.tiling.tile);
  const int64_t values = voxels * static_cast<int64_t>(spec.preprocessing.channels.size());
  float* tiles = workspace_.tiles.at_least(values);
  std::fill(tiles, tiles + values, 0.0f);
  if (network_->lends()) {
    network_->lend(tiles, count);
  } else {
    network_->run(tiles, count, workspace_.logits.at_least(voxels * spec.output.channels()));
  }
  statistics_.warm_up_seconds = watch.seconds();
}

int64_t Model::least_budget(const sgmf_volume& volume, const sgmf_labels& labels) const {
  check_channels(volume);
  return least_budget_bytes(
      to_volume_without_memory(volume), manifest_.spec, *network_,
      to_label_buffer_without_memory(labels, volume, manifest_.spec.output.largest_value()),
      segment_options());
}

}  // namespace sgmf::embedding
