#include "cuda/sums/logit_device.h"

#include <utility>

#include "cuda/sums/device_lines.h"

namespace sgmf::cuda {

CudaLogitDevice::CudaLogitDevice(std::shared_ptr<const Device> device, const std::string& kernels,
                                 DeviceNetwork& network)
    : device_(std::move(device)),
      kernels_(kernels),
      network_(network) {}

int64_t CudaLogitDevice::free_bytes() const {
  const Current current(*device_);
  return static_cast<int64_t>(device_->free_bytes());
}

int64_t CudaLogitDevice::sums_bytes(const Triple& tile, int64_t classes, int64_t lines,
                                    int64_t width) const {
  return DeviceLines::bytes(tile, classes, lines, width);
}

std::unique_ptr<LogitLines> CudaLogitDevice::lines(ImageTiles tiles,
                                                   const std::vector<float>& weights,
                                                   int64_t classes,
                                                   const std::vector<uint16_t>& regions,
                                                   LabelMap& map) {
  const Current current(*device_);
  const Triple tile = extent(tiles.boxes.front());
  DeviceFeed feed(network_, std::move(tiles));
  return std::make_unique<DeviceLines>(
      DeviceLines::Task{device_, kernels_, tile, weights, classes, regions, map}, std::move(feed));
}

}  // namespace sgmf::cuda
