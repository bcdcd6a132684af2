// A device and its network for Python.
#pragma once

#include <memory>

#include "cuda/sums/logit_device.h"
#include "python/pipeline.h"

namespace sgmf {

// A network on a device that is a callback.
class CallbackDevice : public cuda::DeviceNetwork {
 public:
  // Throws BackendMissing: there is no driver, device or library of kernels.
  CallbackDevice(const sgmf_device& given, int64_t tiles_at_once, void* user);

  LogitDevice& logits() { return logits_; }

  int64_t tiles_at_once() const override { return tiles_at_once_; }
  void start(const float* tiles, int64_t count, cuda::DeviceLogits* logits) override;

 private:
  const sgmf_device given_;
  const int64_t tiles_at_once_;
  void* user_;
  cuda::CudaLogitDevice logits_;
};

}  // namespace sgmf
