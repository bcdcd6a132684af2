#include "libsgmf/model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "kernels/parallel.h"
#include "libsgmf/buffers.h"
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

// Asks the caller's function. What it throws must not pass through code in other languages.
bool go_on(const sgmf_run_options& options, int64_t done, int64_t count) {
  if (!options.progress) return true;
  try {
    return options.progress(options.user_data, done, count) == 0;
  } catch (...) {
    refuse("the progress callback threw an exception; it must return 0 or another number");
  }
}

// Adds a network's run to those before it.
void add(sgmf_statistics& sums, const SegmentStatistics& run) {
  sums.preprocess_seconds += run.preprocess_seconds;
  sums.network_seconds += run.network_seconds;
  sums.labels_seconds += run.total_seconds - run.preprocess_seconds - run.network_seconds;
  sums.total_seconds += run.total_seconds;
  sums.tiles += run.tiles;
  sums.on_device = run.on_device;
  sums.peak_bytes = std::max(sums.peak_bytes, run.peak_bytes);
}

void run_empty_tiles(const Spec& spec, Network& network, Workspace& workspace) {
  const int64_t count = network.tiles_at_once();
  const int64_t voxels = count * voxel_count(spec.tiling.tile);
  const int64_t values = voxels * spec.image_channels();
  float* tiles = workspace.tiles.at_least(values);
  std::fill(tiles, tiles + values, 0.0f);
  if (network.lends()) {
    network.lend(tiles, count);
  } else {
    network.run(tiles, count, workspace.logits.at_least(voxels * spec.output.channels()));
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
  open(options);
  statistics_.open_seconds = watch.seconds();
}

void Model::open(const sgmf_open_options& options) {
  StageOptions settings{text_or(options.backend, "onnxruntime"), variant_,
                        text_or(options.backend_library, ""), threads_, false};
  find_backend(settings.backend);
  const Trust trust{text_or(options.trusted_keys, ""), options.require_signature != 0};
  auto package = std::make_unique<const Package>(options.package_path, trust);
  if (package->signer()) signer_ = package->signer()->name;
  std::unique_ptr<const Package> first = package->previous_stage();
  one_at_a_time_ = first && options.memory_budget_mib > 0;
  if (first) {
    stages_.push_back(std::make_unique<Stage>(std::move(first), settings));
    backend_ = stages_.front()->description();
    check_tile(*stages_.front());
    end_turn(*stages_.front());
  }
  settings.postprocessing = options.without_postprocessing == 0;
  stages_.push_back(std::make_unique<Stage>(std::move(package), settings));
  const std::string& own = stages_.back()->description();
  backend_ = backend_.empty() || backend_ == own ? own : backend_ + ", then " + own;
  check_tile(*stages_.back());
  end_turn(*stages_.back());
}

void Model::check_tile(Stage& stage) const {
  const Spec& spec = stage.manifest().spec;
  Volume voxel;
  voxel.type = ElementType::uint8;
  voxel.channels = static_cast<int64_t>(spec.preprocessing.channels.size());
  voxel.shape = {1, 1, 1};
  for (std::size_t i = 0; i < 4; ++i) voxel.affine[i][i] = 1;
  LabelBuffer label;
  label.type = spec.output.largest_value() > UINT8_MAX ? ElementType::uint16 : ElementType::uint8;
  const int64_t least =
      least_budget_bytes(voxel, spec, stage.planned_network(), label, segment_options());
  if (least > budget_bytes_) throw BudgetError("a tile and its logits", budget_bytes_, least);
}

void Model::end_turn(Stage& stage) {
  if (one_at_a_time_) stage.close();
}

sgmf_info Model::info() const {
  const Manifest& own = manifest();
  const Spec& spec = own.spec;
  sgmf_info info{};
  info.inputs = static_cast<int32_t>(spec.preprocessing.channels.size());
  info.labels = static_cast<int32_t>(own.labels.size());
  info.regions = static_cast<int32_t>(own.regions.size());
  info.label_type = to_c(spec.output.largest_value() <= UINT8_MAX);
  info.threads = threads_;
  info.memory_budget_bytes = budget_bytes_;
  const Spacing spacing = spec.preprocessing.spacing_mm.value_or(Spacing{});
  for (std::size_t i = 0; i < 3; ++i) {
    info.tile[i] = spec.tiling.tile[i];
    info.spacing_mm[i] = std::isnan(spacing[i]) ? 0 : spacing[i];
  }
  info.name = own.name.c_str();
  info.network = own.network.c_str();
  info.created = own.created.c_str();
  info.format_version = own.format_version.c_str();
  info.variant = variant_.c_str();
  info.backend = backend_.c_str();
  info.signer = signer_.empty() ? nullptr : signer_.c_str();
  info.reader = own.reader.empty() ? nullptr : own.reader.c_str();
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
  const auto& names = manifest().spec.preprocessing.channels;
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
  const LabelBuffer buffer =
      to_label_buffer(labels, volume, manifest().spec.output.largest_value());
  cancelled_ = false;
  SegmentOptions settings = segment_options();
  settings.cancelled = [this] { return cancelled_.load(); };
  settings.progress = [&](int64_t done, int64_t count) {
    return !cancelled_ && go_on(options, done, count);
  };
  if (stages_.size() > 1) {
    check_budget(voxels, manifest().spec, stages_.back()->planned_network(), buffer, settings);
  }
  sgmf_statistics sums{};
  sums.open_seconds = statistics_.open_seconds;
  sums.warm_up_seconds = statistics_.warm_up_seconds;
  for (const auto& stage : stages_) {
    add(sums,
        segment(voxels, stage->manifest().spec, stage->network(), buffer, settings, workspace_));
    end_turn(*stage);
  }
  statistics_ = sums;
}

void Model::warm_up() {
  const Stopwatch watch;
  for (const auto& stage : stages_) {
    run_empty_tiles(stage->manifest().spec, stage->network(), workspace_);
    end_turn(*stage);
  }
  statistics_.warm_up_seconds = watch.seconds();
}

int64_t Model::least_budget(const sgmf_volume& volume, const sgmf_labels& labels) {
  check_channels(volume);
  const Volume place = to_volume_without_memory(volume);
  const LabelBuffer buffer =
      to_label_buffer_without_memory(labels, volume, manifest().spec.output.largest_value());
  int64_t least = 0;
  for (const auto& stage : stages_) {
    least =
        std::max(least, least_budget_bytes(place, stage->manifest().spec, stage->planned_network(),
                                           buffer, segment_options()));
    end_turn(*stage);
  }
  return least;
}

}  // namespace sgmf::embedding
