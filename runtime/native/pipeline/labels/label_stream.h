// Computation of labels on the scan's grid from an image on the network's, within a budget.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/labels/host_lines.h"
#include "pipeline/labels/label_plan.h"
#include "pipeline/labels/logit_device.h"
#include "pipeline/sampling/axis_taps.h"
#include "pipeline/spec.h"
#include "pipeline/tiles/tile_feed.h"
#include "pipeline/workspace.h"

namespace sgmf {

// An image, the grid of its labels, and the network.
struct LabelTask {
  Tiling tiling;
  Output output;
  int64_t channels = 0;  // of the image
  Triple shape{};        // of the image
  Spacing spacing_mm{};
  Triple target_shape{};
  Spacing target_spacing_mm{};
  Resampling resampling;  // of logits
  TileNetwork network;
  LogitDevice* device = nullptr;  // runs the tiles for labels instead, where it is given
  int threads = 1;
};

// Memory of the processor for a prediction, and what is held of it beside the image and its stream.
struct MemoryBudget {
  int64_t budget_bytes = 0;
  int64_t scan_bytes = 0;
  int64_t scan_voxels = 0;  // of a channel: of the label map as well
  int64_t bytes_per_label = 0;
  int64_t probability_maps = 0;      // float32, in one array on the target's grid
  int64_t postprocessing_bytes = 0;  // held after the stream, beside scan, image and label map
};

class LabelStream {
 public:
  // Called with the tiles done and their number.
  using Progress = std::function<void(int64_t done, int64_t count)>;

  explicit LabelStream(LabelTask task);

  const LabelTask& task() const { return task_; }

  // Whether logits are reduced to labels as tiles finish. Splines of an order above one reach
  // across the whole scan: all logits are needed at once.
  bool streams() const { return taps_.has_value(); }

  // What a prediction holds of its budget beside its stream: scan, image, label map, and maps of
  // probabilities, of which one lies on the scan's grid as well.
  int64_t held_bytes(const MemoryBudget& budget) const;

  // The least budget that would do.
  int64_t least_bytes(const MemoryBudget& budget) const;

  // Chooses a plan that stays within that budget and the free memory of a device; to be called
  // before what follows. Throws BudgetError.
  void plan(const MemoryBudget& budget);

  // Whether labels are made on a device, which interpolates logits alone.
  bool on_device() const {
    return task_.device && streams() && !task_.output.interpolates_probabilities;
  }
  // What the budget is charged with.
  int64_t planned_bytes() const { return planned_bytes_; }
  // Tiles of a run.
  int64_t tile_runs() const { return static_cast<int64_t>(plan_.tiles().size()); }

  // Labels of an image (channels, *shape) into `map`, whose box has the target's shape. Returns
  // the seconds inside the network, and those of the sums where they are on a device.
  double labels(const float* image, LabelMap& map, const Progress& progress,
                Workspace& workspace) const;

  // Streams finished logits into `sink`: on the way to the target's grid where streams(), otherwise
  // all of them onto the image's own.
  double logits(const float* image, LogitSink& sink, const Progress& progress,
                Workspace& workspace) const;

 private:
  // Some memory, and what takes it.
  struct MemoryLimit {
    std::string subject;
    int64_t bytes = 0;
    int64_t fixed_bytes = 0;
    // Of sums of logits in so many lines of a width at once.
    std::function<int64_t(int64_t lines, int64_t width)> sums_bytes;

    int64_t needed(const LabelPlan::Candidate& candidate) const {
      return fixed_bytes + sums_bytes(candidate.lines, candidate.width);
    }
  };

  MemoryLimit host_limit(const MemoryBudget& budget) const;
  MemoryLimit later_limit(const MemoryBudget& budget) const;
  MemoryLimit device_limit() const;
  int64_t least_bytes(const MemoryLimit& limit) const;
  double label_on_device(const float* image, LabelMap& map, const Progress& progress) const;
  void take_tile(TileFeed& feed, LogitSink& sink, const Progress& progress,
                 Workspace& workspace) const;
  void take_planes(const Enlargement& enlargement, const float* logits, const GridTaps& taps,
                   LogitSink& sink) const;
  // Whether the logits of a single tile are taken as they are.
  bool takes_one_tile() const {
    return plan_.is_one_tile() && !task_.output.interpolates_probabilities;
  }
  int64_t enlarged_floats() const;
  int64_t kept_bytes() const;
  double label_all(const float* image, LabelMap& map, const Progress& progress,
                   Workspace& workspace) const;

  const LabelTask task_;
  const std::optional<GridTaps> taps_;
  LabelPlan plan_;
  int64_t planned_bytes_ = 0;
  bool keeps_equal_ = false;
};

}  // namespace sgmf
