// Tiles, sums and labels for Python.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/labels/label_stream.h"
#include "pipeline/segment.h"
#include "pipeline/tiles/tiling.h"
#include "python/c_conversions.h"
#include "python/c_device.h"

namespace sgmf {
namespace {

LabelTask task_of(const sgmf_label_task& given, CallbackNetwork& network,
                  std::optional<CallbackDevice>& device) {
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
  if (given.device) {
    device.emplace(*given.device, given.network.tiles_at_once, given.user);
    task.device = &device->logits();
  }
  task.threads = threads_of(given.threads);
  return task;
}

MemoryBudget budget_of(const sgmf_memory_budget& given) {
  return {given.budget_bytes,    given.scan_bytes,       given.scan_voxels,
          given.bytes_per_label, given.probability_maps, given.postprocessing_bytes};
}

LabelStream::Progress progress_of(sgmf_progress callback, void* user) {
  return [=](int64_t done, int64_t count) {
    if (callback) expect_zero(callback(user, done, count));
  };
}

class CallbackSink : public LogitSink {
 public:
  CallbackSink(sgmf_take_logits callback, void* user) : callback_(callback), user_(user) {}

  void take(const FinishedLogits& logits) override {
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
    expect_zero(callback_(user_, &finished));
  }

 private:
  sgmf_take_logits callback_;
  void* user_;
};

}  // namespace
}  // namespace sgmf

// A stream whose network is its callback, and for labels that of its device.
struct sgmf_stream {
  void* user;
  sgmf::CallbackNetwork network;
  std::optional<sgmf::CallbackDevice> device;
  sgmf::LabelStream stream;

  explicit sgmf_stream(const sgmf_label_task& task)
      : user(task.user),
        network(task.network, task.user),
        stream(sgmf::task_of(task, network, device)) {
    stream.plan(sgmf::budget_of(task.budget));
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

int32_t sgmf_segment_volume(const sgmf_segment_args* args, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    sgmf::Spec spec{sgmf::preprocessing_of(args->preprocessing),
                    sgmf::tiling_of(args->tiling),
                    sgmf::output_of(args->output),
                    {},
                    {}};
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
