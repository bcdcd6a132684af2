#include "pipeline/labels/label_stream.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/finite.h"
#include "kernels/parallel.h"
#include "pipeline/error.h"
#include "pipeline/sampling/resample.h"

namespace sgmf {
namespace {

constexpr int64_t float_bytes = static_cast<int64_t>(sizeof(float));

GridTaps identity_taps(const Triple& shape) {
  return *grid_taps(shape, shape, {1, 1, 1}, {1, 1, 1}, Resampling{});
}

// Each line of an array (channels, *shape), in order.
Places all_places(const Triple& shape) {
  Places places{shape[0], shape[1], std::vector<int64_t>(shape[0] * shape[1])};
  std::iota(places.lines.begin(), places.lines.end(), 0);
  return places;
}

// Logits (classes, *tile), all at once.
const float* enlarged(const Enlargement& enlargement, const float* logits, int64_t classes,
                      const Triple& tile, int threads, FloatBuffer& memory) {
  float* all = memory.at_least(classes * voxel_count(tile));
  own_threads(worthwhile_threads(threads, classes * voxel_count(tile)))(
      static_cast<std::size_t>(classes * tile[0]), [&](std::size_t plane) {
        const int64_t row = static_cast<int64_t>(plane) * tile[1];
        enlargement.rows(logits, row, row + tile[1], all + row * tile[2]);
      });
  return all;
}

}  // namespace

LabelStream::LabelStream(LabelTask task)
    : task_(std::move(task)),
      taps_(grid_taps(task_.shape, task_.target_shape, task_.spacing_mm, task_.target_spacing_mm,
                      task_.resampling)),
      plan_(task_.shape, task_.tiling, taps_ ? *taps_ : identity_taps(task_.shape)) {}

int64_t LabelStream::held_bytes(const MemoryBudget& budget) const {
  const int64_t image = task_.channels * voxel_count(task_.shape) * float_bytes;
  const int64_t labels = budget.scan_voxels * budget.bytes_per_label;
  const int64_t maps = budget.probability_maps * voxel_count(task_.target_shape) +
                       (budget.probability_maps > 0 ? budget.scan_voxels : 0);
  return budget.scan_bytes + image + labels + maps * float_bytes;
}

// The limit for all that is held in memory of the processor.
LabelStream::MemoryLimit LabelStream::host_limit(const MemoryBudget& budget) const {
  const int64_t classes = task_.output.channels(), voxels = voxel_count(task_.target_shape);
  const Triple& tile = task_.tiling.tile;
  const LogitDevice* device = task_.device;
  MemoryLimit limit;
  limit.bytes = budget.budget_bytes;
  limit.subject = "scan, image, logits and labels";
  limit.fixed_bytes = held_bytes(budget) + LabelSink::scratch_bytes(task_.target_shape);
  if (on_device()) {
    limit.fixed_bytes += device->tiles_at_once() * task_.channels * voxel_count(tile) * float_bytes;
    limit.sums_bytes = [=](int64_t lines, int64_t width) {
      return device->is_integrated() ? device->sums_bytes(tile, classes, lines, width) : 0;
    };
    return limit;
  }
  const int64_t tiles = task_.network.floats_held(task_.channels, tile);
  limit.fixed_bytes += (tiles + enlarged_floats()) * float_bytes;
  if (!streams()) {
    limit.subject = "scan, image, labels and logits, which a spline of order above one resamples,";
    limit.fixed_bytes += classes * (voxel_count(task_.shape) + voxels) * float_bytes;
  }
  const int64_t summed = takes_one_tile() ? 0 : classes;
  limit.sums_bytes = [summed](int64_t lines, int64_t width) {
    return lines * width * summed * float_bytes;
  };
  return limit;
}

// The limit for what postprocessing holds once the stream is done.
LabelStream::MemoryLimit LabelStream::later_limit(const MemoryBudget& budget) const {
  MemoryLimit limit;
  limit.bytes = budget.budget_bytes;
  limit.subject = "scan, image, labels and their components";
  limit.fixed_bytes = held_bytes(budget) + budget.postprocessing_bytes;
  limit.sums_bytes = [](int64_t, int64_t) { return int64_t{0}; };
  return limit;
}

LabelStream::MemoryLimit LabelStream::device_limit() const {
  const LogitDevice* device = task_.device;
  MemoryLimit limit;
  limit.subject = "sums of logits on " + device->name();
  limit.bytes = device->free_bytes();
  limit.sums_bytes = [=](int64_t lines, int64_t width) {
    return device->sums_bytes(task_.tiling.tile, task_.output.channels(), lines, width);
  };
  return limit;
}

// Of logits that are made larger at once: a plane of a channel on each thread, or all of a single
// tile, which not every sink takes plane by plane.
int64_t LabelStream::enlarged_floats() const {
  const Triple& tile = task_.tiling.tile;
  if (task_.network.network->logits_shape(tile) == tile) return 0;
  if (takes_one_tile()) return task_.output.channels() * voxel_count(tile);
  return std::min<int64_t>(task_.threads, tile[0]) * tile[1] * tile[2];
}

// Of the logits that equal tiles share.
int64_t LabelStream::kept_bytes() const {
  return task_.network.logit_floats(task_.tiling.tile) * float_bytes;
}

int64_t LabelStream::least_bytes(const MemoryLimit& limit) const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const LabelPlan::Candidate& candidate : plan_.candidates()) {
    least = std::min(least, limit.needed(candidate));
  }
  return least;
}

int64_t LabelStream::least_bytes(const MemoryBudget& budget) const {
  return std::max(least_bytes(host_limit(budget)), least_bytes(later_limit(budget)));
}

void LabelStream::plan(const MemoryBudget& budget) {
  std::vector<MemoryLimit> limits = {host_limit(budget), later_limit(budget)};
  if (on_device()) limits.push_back(device_limit());
  for (const MemoryLimit& limit : limits) {
    const int64_t least = least_bytes(limit);
    if (least > limit.bytes) throw BudgetError(limit.subject, limit.bytes, least);
  }
  const auto fits = [&](const LabelPlan::Candidate& candidate) {
    return std::all_of(limits.begin(), limits.end(), [&](const MemoryLimit& limit) {
      return limit.needed(candidate) <= limit.bytes;
    });
  };
  if (!plan_.choose(fits)) {
    // Each limit can be kept, but by other divisions than the next.
    const MemoryLimit& last = limits.back();
    throw BudgetError(last.subject, last.bytes, last.bytes + 1);
  }
  planned_bytes_ = limits.front().needed(plan_.chosen());
  keeps_equal_ =
      !on_device() && !takes_one_tile() && planned_bytes_ + kept_bytes() <= budget.budget_bytes;
  if (keeps_equal_) planned_bytes_ += kept_bytes();
  planned_bytes_ = std::max(planned_bytes_, limits[1].needed(plan_.chosen()));
}

double LabelStream::labels(const float* image, LabelMap& map, const Progress& progress,
                           Workspace& workspace) const {
  if (!streams()) return label_all(image, map, progress, workspace);
  if (on_device()) return label_on_device(image, map, progress);
  LabelSink sink(map, task_.output.region_values, task_.threads);
  return logits(image, sink, progress, workspace);
}

double LabelStream::logits(const float* image, LogitSink& sink, const Progress& progress,
                           Workspace& workspace) const {
  TileFeed feed(task_.network, {image, task_.channels, task_.shape}, plan_.padding().place,
                plan_.tiles(), keeps_equal_, workspace);
  if (takes_one_tile()) {
    take_tile(feed, sink, progress, workspace);
    return feed.network_seconds();
  }
  const std::vector<float> weights = tile_weights(task_.tiling);
  HostLines lines(feed, task_.tiling.tile, weights, task_.output, task_.threads, sink, workspace);
  plan_.run(lines, weights, progress);
  return feed.network_seconds();
}

double LabelStream::label_on_device(const float* image, LabelMap& map,
                                    const Progress& progress) const {
  const auto begin = std::chrono::steady_clock::now();
  // The logits of a single tile are taken as they are.
  const std::vector<float> weights = plan_.is_one_tile()
                                         ? std::vector<float>(voxel_count(task_.tiling.tile), 1.0f)
                                         : tile_weights(task_.tiling);
  ImageTiles tiles{{image, task_.channels, task_.shape},
                   plan_.padding().place,
                   plan_.tiles(),
                   task_.network.cancelled};
  const auto lines = task_.device->lines(std::move(tiles), weights, task_.output.channels(),
                                         task_.output.region_values, map);
  plan_.run(*lines, weights, progress);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// All logits are those of one tile: what weighs them is divided away again.
void LabelStream::take_tile(TileFeed& feed, LogitSink& sink, const Progress& progress,
                            Workspace& workspace) const {
  progress(0, 1);
  const float* logits = feed.next();
  progress(1, 1);
  const Triple& tile = task_.tiling.tile;
  const int64_t classes = task_.output.channels(), voxels = voxel_count(tile);
  const GridTaps taps = plan_.taps_in_tile();
  if (const Enlargement* enlargement = feed.enlargement()) {
    if (sink.is_pointwise(taps)) return take_planes(*enlargement, logits, taps, sink);
    logits = enlarged(*enlargement, logits, classes, tile, task_.threads, workspace.sums);
  }
  if (!sink.is_pointwise(taps) && !all_finite(logits, classes * voxels, task_.threads)) {
    throw Error(ErrorCode::backend, not_finite);
  }
  const Box target = whole({taps[0].count(), taps[1].count(), taps[2].count()});
  sink.take({logits, tile[2], voxels, classes, tile[2], all_places(tile), target, taps});
}

// Makes logits larger a plane at a time, in the nearest caches, and takes it.
void LabelStream::take_planes(const Enlargement& enlargement, const float* logits,
                              const GridTaps& taps, LogitSink& sink) const {
  const Triple& tile = task_.tiling.tile;
  const int64_t classes = task_.output.channels(), plane = tile[1] * tile[2];
  const int64_t planes = taps[0].count();
  const Places places = all_places({1, tile[1], tile[2]});
  const auto take = [&](int64_t z, float* values) {
    const int64_t source = taps[0].low[z];
    for (int64_t channel = 0; channel < classes; ++channel) {
      const int64_t row = (channel * tile[0] + source) * tile[1];
      enlargement.rows(logits, row, row + tile[1], values + channel * plane);
    }
    const GridTaps inside{taps[0].part({z, z + 1}, source), taps[1], taps[2]};
    const Box target{Range{z, z + 1}, {0, taps[1].count()}, {0, taps[2].count()}};
    sink.take({values, tile[2], plane, classes, tile[2], places, target, inside});
  };
  const std::size_t tasks = static_cast<std::size_t>(std::min<int64_t>(planes, task_.threads));
  own_threads(worthwhile_threads(task_.threads, classes * voxel_count(tile)))(
      tasks, [&](std::size_t task) {
        const auto values = pages_for<float>(classes * plane);
        const int64_t step = static_cast<int64_t>(tasks);
        for (int64_t z = static_cast<int64_t>(task); z < planes; z += step) take(z, values.get());
      });
}

double LabelStream::label_all(const float* image, LabelMap& map, const Progress& progress,
                              Workspace& workspace) const {
  const int64_t classes = task_.output.channels();
  const Triple& shape = task_.shape;
  const Triple& target = task_.target_shape;
  const int64_t voxels = voxel_count(shape), target_voxels = voxel_count(target);
  FloatBuffer coarse, fine;
  float* coarse_logits = coarse.at_least(classes * voxels);
  LogitArray all(coarse_logits, shape);
  const double seconds = logits(image, all, progress, workspace);
  const ChannelResize resize(shape, target, task_.spacing_mm, task_.target_spacing_mm,
                             task_.resampling, task_.threads);
  float* fine_logits = fine.at_least(classes * target_voxels);
  for (int64_t channel = 0; channel < classes; ++channel) {
    resize.run(array_reader(coarse_logits + channel * voxels, shape),
               fine_logits + channel * target_voxels);
  }
  LabelSink(map, task_.output.region_values, task_.threads)
      .take({fine_logits, target[2], target_voxels, classes, target[2], all_places(target),
             whole(target), identity_taps(target)});
  return seconds;
}

}  // namespace sgmf
