// The tiles of an image through a network that leaves their logits on a device.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/sums/device_network.h"
#include "pipeline/labels/logit_device.h"

namespace sgmf::cuda {

class DeviceFeed {
 public:
  // `network` is borrowed.
  DeviceFeed(DeviceNetwork& network, ImageTiles tiles);

  // Logits of the next tile. `used` has been recorded for those before. Throws what the network
  // throws, and Error(cancelled).
  DeviceLogits next();

 private:
  void start_batch();

  DeviceNetwork& network_;
  const ImageTiles tiles_;
  const int64_t tile_floats_;  // of one tile, all channels
  std::vector<float> batch_;
  std::vector<DeviceLogits> logits_;
  std::size_t next_ = 0;
};

}  // namespace sgmf::cuda
