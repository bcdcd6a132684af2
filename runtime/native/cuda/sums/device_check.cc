#include "cuda/sums/device_check.h"

#include <cstdint>
#include <vector>

#include "cuda/sums/logit_device.h"
#include "pipeline/labels/label_stream.h"

namespace sgmf::cuda {
namespace {

constexpr Triple tile{7, 6, 9}, shape{11, 9, 14}, target{13, 17, 20};
constexpr int64_t classes = 5;

// Numbers from -1 to below 1 that seem to be random.
std::vector<float> numbers(int64_t count) {
  std::vector<float> found(static_cast<std::size_t>(count));
  uint32_t state = 1;
  for (float& number : found) {
    state = state * 1664525u + 1013904223u;
    number = static_cast<float>(state >> 8) / (1 << 23) - 1;
  }
  return found;
}

// Every class is the tile times a number of its own, plus numbers that differ from voxel to voxel.
class SmallNetwork : public Network {
 public:
  void run(const float* tiles, int64_t, float* logits) override {
    const int64_t voxels = voxel_count(tile);
    for (int64_t i = 0; i < classes * voxels; ++i) {
      logits[i] = tiles[i % voxels] * offsets_[static_cast<std::size_t>(i / voxels)] +
                  offsets_[static_cast<std::size_t>(i)];
    }
  }

 private:
  const std::vector<float> offsets_ = numbers(classes * voxel_count(tile));
};

// The same, its logits sent to a device.
class SmallDeviceNetwork : public DeviceNetwork {
 public:
  explicit SmallDeviceNetwork(const std::shared_ptr<const Device>& device)
      : device_(device),
        logits_(static_cast<std::size_t>(classes * voxel_count(tile))),
        memory_(device, logits_.size() * sizeof(float)),
        stream_(device),
        computed_(device),
        used_(device) {}

  int64_t tiles_at_once() const override { return 1; }

  void start(const float* tiles, int64_t count, DeviceLogits* logits) override {
    const Current current(*device_);
    stream_.synchronize();
    network_.run(tiles, count, logits_.data());
    stream_.wait_for(used_.get());
    stream_.copy_in(memory_.get(), logits_.data(), logits_.size() * sizeof(float));
    stream_.record(computed_.get());
    *logits = {memory_.get(), computed_.get(), used_.get()};
  }

 private:
  std::shared_ptr<const Device> device_;
  SmallNetwork network_;
  std::vector<float> logits_;
  const DeviceMemory memory_;
  const Stream stream_;
  const Event computed_;
  const Event used_;
};

std::vector<uint16_t> labels_of(LogitDevice* device) {
  SmallNetwork network;
  LabelTask task;
  task.tiling.tile = tile;
  task.output.label_values.resize(classes);
  task.channels = 1;
  task.shape = shape;
  task.target_shape = target;
  task.spacing_mm = task.target_spacing_mm = {1, 1, 1};
  task.resampling.order = 1;
  task.network = {&network, classes, {}, nullptr};
  task.device = device;
  LabelStream stream(task);
  stream.plan({INT64_MAX});
  std::vector<uint16_t> labels(static_cast<std::size_t>(voxel_count(target)));
  const LabelBuffer buffer{
      labels.data(), ElementType::uint16, {target[1] * target[2], target[2], 1}};
  LabelMap map(buffer, target, {}, whole(target), 1);
  Workspace workspace;
  stream.labels(numbers(voxel_count(shape)).data(), map, [](int64_t, int64_t) {}, workspace);
  return labels;
}

}  // namespace

void check_labels(const std::shared_ptr<const Device>& device, const std::string& kernels) {
  const Current current(*device);
  SmallDeviceNetwork network(device);
  CudaLogitDevice there(device, kernels, network);
  const std::vector<uint16_t> expected = labels_of(nullptr), found = labels_of(&there);
  std::size_t different = 0;
  for (std::size_t i = 0; i < found.size(); ++i) different += found[i] != expected[i];
  if (!different) return;
  throw Error(ErrorCode::backend, std::to_string(different) + " of " +
                                      std::to_string(found.size()) + " labels from " +
                                      device->facts().name + " are not the processor's");
}

}  // namespace sgmf::cuda
