// Tiles, sums and labels for Python.
#include <algorithm>
#include <memory>
#include <vector>

#include "pipeline/labels/label_stream.h"
#include "pipeline/segment.h"
#include "pipeline/tiles/tiling.h"
#include "python/c_conversions.h"

namespace sgmf {
namespace {

LabelTask task_of(const sgmf_label_task& given, CallbackNetwork& network) {
  LabelTask task;
  task.tiling = tiling_of(given.tiling);
  task.output = output_of(given.output);
  check(task.tiling);
  check(task.output);
  task.channels = given.channels;
  task.shape = triple<int64_t>(given.resize.shape);
  task.spacing_mm = triple<double>(given.resize.spacing_mm);
  task.target_shape = triple<int64_t>(given.resize.new_shape);
  task.target_spacing_mm = triple<double>(given.resize.new_spacing_mm);
  task.resampling = resampling_of(given.resampling);
  task.network = {&network, task.output.channels(), axes_of(given.network.mirrored_axes), nullptr};
  task.threads = threads_of(given.threads);
  return task;
}

MemoryBudget budget_of(const sgmf_memory_budget& given) {
  return {given.budget_bytes, given.scan_bytes, given.scan_voxels, given.bytes_per_label,
          given.probability_maps};
}

std::vector<MemoryLimit> limits_of(const LabelStream& stream, const sgmf_label_task& given) {
  const MemoryBudget budget = budget_of(given.budget);
  MemoryLimit host = stream.host_limit(budget);
  if (!given.device) return {host};
  const sgmf_device_memory& device = *given.device;
  void* user = given.user;
  const auto sums = device.sums_bytes;
  // On the processor there are only tiles.
  host.fixed_bytes = stream.held_bytes(budget) + given.network.tiles_at_once * given.channels *
                                                     voxel_count(tiling_of(given.tiling).tile) *
                                                     static_cast<int64_t>(sizeof(float));
  const bool shared = device.integrated != 0;
  host.sums_bytes = [=](int64_t lines, int64_t width) {
    return shared ? sums(user, lines, width) : 0;
  };
  MemoryLimit there;
  there.subject = std::string("sums of logits on ") + device.name;
  there.bytes = device.free_bytes;
  there.sums_bytes = [=](int64_t lines, int64_t width) { return sums(user, lines, width); };
  return {host, there};
}

LabelStream::Progress progress_of(sgmf_progress callback, void* user) {
  return [=](int64_t done, int64_t count) {
    if (callback) expect_zero(callback(user, done, count));
  };
}

void take(const FinishedLogits& logits, sgmf_take_logits callback, void* user) {
  sgmf_finished_logits finished{};
  finished.memory = logits.memory;
  finished.line_stride = logits.line_stride;
  finished.channel_stride = logits.channel_stride;
  finished.channels = logits.channels;
  finished.width = logits.width;
  finished.lines = logits.places.lines.data();
  finished.depth = logits.places.depth;
  finished.height = logits.places.height;
  store(logits.target, finished.target);
  for (int axis = 0; axis < 3; ++axis) finished.taps[axis] = logits.taps[axis].view();
  expect_zero(callback(user, &finished));
}

class CallbackSink : public LogitSink {
 public:
  CallbackSink(sgmf_take_logits callback, void* user) : callback_(callback), user_(user) {}

  void take(const FinishedLogits& logits) override { sgmf::take(logits, callback_, user_); }

 private:
  sgmf_take_logits callback_;
  void* user_;
};

// Lines whose memory is the business of callbacks.
class CallbackLines : public LogitLines {
 public:
  CallbackLines(const sgmf_device_lines& lines, int64_t channels, void* user)
      : lines_(lines),
        channels_(channels),
        user_(user) {}

  void start(const LabelPlan& plan) const {
    const std::vector<Box> tiles = plan.tiles();
    std::vector<int64_t> edges(tiles.size() * 6);
    for (std::size_t i = 0; i < tiles.size(); ++i) store(tiles[i], edges.data() + 6 * i);
    int64_t place[6];
    store(plan.padding().place, place);
    expect_zero(lines_.start(user_, edges.data(), static_cast<int64_t>(tiles.size()), place));
  }

  void begin(int64_t capacity, int64_t width) override {
    width_ = width;
    expect_zero(lines_.begin(user_, capacity, width));
  }

  void clear(const std::vector<int64_t>& lines) override {
    expect_zero(lines_.clear(user_, lines.data(), static_cast<int64_t>(lines.size())));
  }

  void next_tile() override { expect_zero(lines_.next_tile(user_)); }

  void add(const Places& places, int64_t column, const Box& inside) override {
    int64_t edges[6];
    store(inside, edges);
    expect_zero(lines_.add(user_, places.lines.data(), places.depth, places.height, column, edges));
  }

  void divide(const Places& places, const std::vector<float>& divisors) override {
    expect_zero(
        lines_.divide(user_, places.lines.data(), places.depth, places.height, divisors.data()));
  }

  void finish(const Places& places, const Box& target, const GridTaps& taps) override {
    take({nullptr, 0, 0, channels_, width_, places, target, taps}, lines_.finish, user_);
  }

 private:
  const sgmf_device_lines lines_;
  const int64_t channels_;
  void* user_;
  int64_t width_ = 0;
};

}  // namespace
}  // namespace sgmf

// A stream whose network is its callback.
struct sgmf_stream {
  void* user;
  sgmf::CallbackNetwork network;
  sgmf::LabelStream stream;

  explicit sgmf_stream(const sgmf_label_task& task)
      : user(task.user),
        network(task.network, task.user),
        stream(sgmf::task_of(task, network)) {
    stream.plan(sgmf::limits_of(stream, task));
  }
};

extern "C" {

int32_t sgmf_tile_starts(const char* tiling, int32_t axis, int64_t extent, int64_t capacity,
                         int64_t* starts, int64_t* count, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Tiling spec = sgmf::tiling_of(tiling);
    const std::vector<int64_t> found =
        sgmf::tile_starts(spec.scheme, extent, spec.tile[axis], spec.step);
    *count = static_cast<int64_t>(found.size());
    std::copy_n(found.begin(), std::min(*count, capacity), starts);
  });
}

int32_t sgmf_tile_weights(const char* tiling, float* weights, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const std::vector<float> found = sgmf::tile_weights(sgmf::tiling_of(tiling));
    std::copy(found.begin(), found.end(), weights);
  });
}

int32_t sgmf_open_stream(const sgmf_label_task* task, sgmf_stream** stream, sgmf_label_plan* plan,
                         sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    auto opened = std::make_unique<sgmf_stream>(*task);
    plan->tile_runs = opened->stream.tile_runs();
    plan->streams = opened->stream.streams();
    *stream = opened.release();
  });
}

void sgmf_free_stream(sgmf_stream* stream) { delete stream; }

int32_t sgmf_stream_labels(const sgmf_stream* stream, const float* image, sgmf_progress progress,
                           void* labels, int32_t label_type, const int64_t label_strides[3],
                           sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::LabelTask& task = stream->stream.task();
    const sgmf::LabelBuffer buffer{labels, static_cast<sgmf::ElementType>(label_type),
                                   sgmf::triple<int64_t>(label_strides)};
    sgmf::LabelMap map(buffer, task.target_shape, {}, sgmf::whole(task.target_shape), task.threads);
    sgmf::Workspace workspace;
    stream->stream.labels(image, map, sgmf::progress_of(progress, stream->user), workspace);
  });
}

int32_t sgmf_stream_logits(const sgmf_stream* stream, const float* image, sgmf_progress progress,
                           sgmf_take_logits take, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    sgmf::CallbackSink sink(take, stream->user);
    sgmf::Workspace workspace;
    stream->stream.logits(image, sink, sgmf::progress_of(progress, stream->user), workspace);
  });
}

int32_t sgmf_stream_on_device(const sgmf_stream* stream, sgmf_progress progress,
                              const sgmf_device_lines* lines, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::LabelTask& task = stream->stream.task();
    const sgmf::LabelPlan& plan = stream->stream.chosen_plan();
    sgmf::CallbackLines memory(*lines, task.output.channels(), stream->user);
    memory.start(plan);
    plan.run(memory, sgmf::tile_weights(task.tiling), sgmf::progress_of(progress, stream->user));
  });
}

int32_t sgmf_segment_volume(const sgmf_segment_args* args, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    sgmf::Spec spec{sgmf::preprocessing_of(args->preprocessing), sgmf::tiling_of(args->tiling),
                    sgmf::output_of(args->output)};
    spec.tiling.mirror_axes = sgmf::axes_of(args->network.mirrored_axes);
    sgmf::CallbackNetwork network(args->network, args->user);
    sgmf::SegmentOptions options;
    options.budget_bytes = args->budget_bytes;
    options.threads = args->threads;
    options.mirror = true;
    const auto report = sgmf::progress_of(args->progress, args->user);
    options.progress = [&](int64_t done, int64_t count) {
      report(done, count);
      return true;
    };
    const sgmf::LabelBuffer labels{args->labels, static_cast<sgmf::ElementType>(args->label_type),
                                   sgmf::triple<int64_t>(args->label_strides)};
    sgmf::Workspace workspace;
    sgmf::segment(sgmf::volume_of(*args->volume), spec, network, labels, options, workspace);
  });
}

}  // extern "C"
