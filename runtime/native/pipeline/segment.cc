#include "pipeline/segment.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "kernels/parallel.h"
#include "pipeline/geometry/crop.h"
#include "pipeline/grid_check.h"
#include "pipeline/labels/host_lines.h"
#include "pipeline/labels/label_masks.h"
#include "pipeline/labels/label_stream.h"
#include "pipeline/labels/postprocess.h"
#include "pipeline/prepare.h"

namespace sgmf {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

[[noreturn]] void cancel() { throw Error(ErrorCode::cancelled, "the prediction was cancelled"); }

void check_labels(const LabelBuffer& labels, const Output& output) {
  if (labels.type != ElementType::uint8 && labels.type != ElementType::uint16) {
    throw Error(ErrorCode::argument, "labels can be written as uint8 or uint16");
  }
  if (labels.type == ElementType::uint8 && output.largest_value() > 255) {
    throw Error(ErrorCode::argument, "the largest label is " +
                                         std::to_string(output.largest_value()) +
                                         "; give a label buffer of uint16");
  }
}

int threads_of(const SegmentOptions& options) {
  return options.threads > 0 ? options.threads : available_threads();
}

LabelTask task_of(const Spec& spec, Network& network, const SegmentOptions& options,
                  const NetworkGrid& grid) {
  LabelTask task;
  task.tiling = spec.tiling;
  task.output = spec.output;
  task.channels = spec.image_channels();
  task.shape = grid.shape;
  task.spacing_mm = grid.spacing_mm;
  task.target_shape = grid.cropped_shape();
  task.target_spacing_mm = grid.scan_spacing_mm;
  task.resampling = grid.own(spec.preprocessing.logits_resampling);
  task.network = {&network, spec.output.channels(),
                  options.mirror ? spec.tiling.mirror_axes : std::vector<int>{}, options.cancelled};
  // Mirrored logits are averaged on the processor.
  if (task.network.mirrored_axes.empty()) task.device = network.device();
  task.threads = threads_of(options);
  return task;
}

// Fills the image (spec.image_channels(), *grid.shape); `labels` is the label map of a previous
// stage.
void fill_whole_image(const Volume& volume, const Spec& spec, const NetworkGrid& grid,
                      const LabelBuffer& labels, const SegmentOptions& options, float* image) {
  const int threads = threads_of(options);
  const ChannelView map = view(labels, volume.shape, grid.reorientation).cut(grid.box);
  fill_image(volume, spec.preprocessing, grid, spec.previous_stage ? &map : nullptr, threads,
             options.cancelled, image);
  if (!spec.previous_stage) return;
  if (options.cancelled && options.cancelled()) cancel();
  const auto inside = nonzero_mask(cropped_channels(volume, grid), threads);
  float* masks = image + volume.channels * voxel_count(grid.shape);
  fill_masks(map, inside, grid, *spec.previous_stage, threads, masks);
}

MemoryBudget budget_of(const Volume& volume, const Spec& spec, const LabelBuffer& labels,
                       int64_t budget_bytes) {
  return {budget_bytes,
          volume.bytes(),
          voxel_count(volume.shape),
          labels.bytes_per_label(),
          0,
          postprocessing_bytes(spec.postprocessing, volume.shape)};
}

// Plans to sum logits on the network's device, where there is one, it has the memory and nothing
// else forbids it; otherwise on the processor.
LabelStream planned_stream(LabelTask task, const MemoryBudget& budget) {
  if (task.device) {
    LabelStream stream(task);
    try {
      stream.plan(budget);
      if (stream.streams()) return stream;
    } catch (const BudgetError&) {
      // The processor may do with less; if not, its error is the one to read.
    }
    task.device = nullptr;
  }
  LabelStream stream(std::move(task));
  stream.plan(budget);
  return stream;
}

}  // namespace

SegmentStatistics segment(const Volume& volume, const Spec& spec, Network& network,
                          const LabelBuffer& labels, const SegmentOptions& options,
                          Workspace& workspace) {
  const auto begin = std::chrono::steady_clock::now();
  check(spec);
  volume.check();
  if (!labels.labels) throw Error(ErrorCode::argument, "the label buffer is NULL");
  check_labels(labels, spec.output);
  SegmentStatistics statistics;
  check_grid(whole_grid(volume, spec.preprocessing), spec.tiling);
  const NetworkGrid grid = network_grid(volume, spec.preprocessing);
  const LabelStream stream = planned_stream(task_of(spec, network, options, grid),
                                            budget_of(volume, spec, labels, options.budget_bytes));
  statistics.on_device = stream.on_device();
  statistics.peak_bytes = stream.planned_bytes();
  statistics.tiles = stream.tile_runs();
  if (options.cancelled && options.cancelled()) cancel();
  // What is left of a larger scan may be too much beside this one.
  if (workspace.bytes() + volume.bytes() > options.budget_bytes) workspace.release();
  float* image = workspace.image.at_least(spec.image_channels() * voxel_count(grid.shape));
  fill_whole_image(volume, spec, grid, labels, options, image);
  statistics.preprocess_seconds = seconds_since(begin);
  LabelMap map(labels, volume.shape, grid.reorientation, grid.box, threads_of(options));
  map.clear_outside();
  const auto progress = [&](int64_t done, int64_t count) {
    if (options.progress && !options.progress(done, count)) cancel();
  };
  statistics.network_seconds = stream.labels(image, map, progress, workspace);
  const int64_t later_bytes = postprocessing_bytes(spec.postprocessing, volume.shape);
  if (workspace.bytes() + volume.bytes() + later_bytes > options.budget_bytes) workspace.release();
  postprocess(labels, volume.shape, spec.postprocessing, options.cancelled);
  statistics.total_seconds = seconds_since(begin);
  return statistics;
}

void check_budget(const Volume& volume, const Spec& spec, Network& network,
                  const LabelBuffer& labels, const SegmentOptions& options) {
  const NetworkGrid grid = network_grid(volume, spec.preprocessing);
  planned_stream(task_of(spec, network, options, grid),
                 budget_of(volume, spec, labels, options.budget_bytes));
}

int64_t least_budget_bytes(const Volume& volume, const Spec& spec, Network& network,
                           const LabelBuffer& labels, const SegmentOptions& options) {
  check(spec);
  volume.check_place();
  check_labels(labels, spec.output);
  const NetworkGrid grid = whole_grid(volume, spec.preprocessing);
  check_grid(grid, spec.tiling);
  LabelTask task = task_of(spec, network, options, grid);
  task.device = nullptr;  // what the processor needs is enough wherever logits are summed
  return LabelStream(std::move(task))
      .least_bytes(budget_of(volume, spec, labels, options.budget_bytes));
}

}  // namespace sgmf
