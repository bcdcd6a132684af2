// Sums of logits in memory of a CUDA device: tiles are added where the network left them, and only
// labels come back. The kernels give what those of the processor give, bit for bit.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cuda/driver/device.h"
#include "cuda/sums/device_feed.h"
#include "cuda/sums/label_kernels.h"
#include "pipeline/labels/logit_lines.h"

namespace sgmf::cuda {

// Arrays for the next kernel, packed so that one copy brings all of them.
class Tables {
 public:
  // Returns where in `bytes` the values begin.
  template <typename T>
  std::size_t add(const std::vector<T>& values) {
    const std::size_t begin = bytes.size();
    const auto* first = reinterpret_cast<const char*>(values.data());
    bytes.insert(bytes.end(), first, first + values.size() * sizeof(T));
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    return begin;
  }

  std::vector<char> bytes;

 private:
  static constexpr std::size_t alignment = 16;
};

class DeviceLines : public LogitLines {
 public:
  // What stays the same for all lines; all is borrowed, but for the device.
  struct Task {
    std::shared_ptr<const Device> device;
    const LabelKernels& kernels;
    Triple tile;
    const std::vector<float>& weights;  // of the voxels of a tile
    int64_t classes;
    const std::vector<uint16_t>& regions;  // as of Output
    LabelMap& map;
  };

  // The device has to be current here alone.
  DeviceLines(Task task, DeviceFeed feed);
  ~DeviceLines() override;

  // See LogitDevice::sums_bytes.
  static int64_t bytes(const Triple& tile, int64_t classes, int64_t lines, int64_t width);

  void begin(int64_t capacity, int64_t width) override;
  void clear(const std::vector<int64_t>& lines) override;
  void next_tile() override;
  void add(const Places& places, int64_t column, const Box& inside) override;
  void divide(const Places& places, const std::vector<float>& divisors) override;
  void finish(const Places& places, const Box& target, const GridTaps& taps) override;

 private:
  // Enqueues labels of voxels that lie where `taps` say, and their way to labels_.
  void label(const Places& places, const GridTaps& taps);
  void check_finite() const;
  // Device addresses of lines, as the kernels want them.
  std::vector<Address> addresses(const std::vector<int64_t>& lines, int64_t column = 0) const;
  // Sends tables for the next kernel, with `room` bytes behind them. The stream overwrites those of
  // the kernel before once it is done. Returns where they begin.
  Address send(Tables tables, std::size_t room = 0);
  void send_to(Address target, std::vector<char> bytes);
  // Until all work is done.
  void wait();

  const Task task_;
  DeviceFeed feed_;
  const Stream stream_;
  const DeviceMemory weights_;
  const DeviceMemory not_finite_;  // an int32_t
  std::unique_ptr<DeviceMemory> lines_;
  std::unique_ptr<DeviceMemory> scratch_;
  std::size_t scratch_bytes_ = 0;
  int64_t width_ = 0;
  DeviceLogits logits_;                 // of the present tile
  std::deque<std::vector<char>> sent_;  // on its way to the device
  std::vector<uint16_t> labels_;        // on their way back
  int32_t flag_ = 0;                    // likewise
};

}  // namespace sgmf::cuda
