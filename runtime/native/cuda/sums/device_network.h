// A network whose logits stay on the device that computes them.
#pragma once

#include <cstdint>

#include "cuda/driver/driver.h"

namespace sgmf::cuda {

// Logits (classes, *tile) of one tile on a device, float32 and dense.
struct DeviceLogits {
  Address address = 0;
  EventHandle computed = nullptr;  // happens when they are there
  EventHandle used = nullptr;      // is recorded when they are no longer needed
};

class DeviceNetwork {
 public:
  virtual ~DeviceNetwork() = default;

  // Most tiles of a call.
  virtual int64_t tiles_at_once() const = 0;

  // Starts to turn tiles (count, channels, *tile), which are there for the call, into the logits of
  // each. Those stay where they are until the next call, before which `used` is recorded for all.
  virtual void start(const float* tiles, int64_t count, DeviceLogits* logits) = 0;
};

}  // namespace sgmf::cuda
