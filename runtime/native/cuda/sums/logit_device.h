// A CUDA device and a network that leaves its logits there, as the pipeline sees them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/driver/device.h"
#include "cuda/sums/device_network.h"
#include "cuda/sums/label_kernels.h"
#include "pipeline/labels/logit_device.h"

namespace sgmf::cuda {

class CudaLogitDevice : public LogitDevice {
 public:
  // `kernels` is the path of libsgmf_cuda; `network` is borrowed. Throws BackendMissing.
  CudaLogitDevice(std::shared_ptr<const Device> device, const std::string& kernels,
                  DeviceNetwork& network);

  std::string name() const override { return device_->facts().name; }
  int64_t free_bytes() const override;
  bool is_integrated() const override { return device_->facts().integrated; }
  int64_t tiles_at_once() const override { return network_.tiles_at_once(); }
  int64_t sums_bytes(const Triple& tile, int64_t classes, int64_t lines,
                     int64_t width) const override;
  std::unique_ptr<LogitLines> lines(ImageTiles tiles, const std::vector<float>& weights,
                                    int64_t classes, const std::vector<uint16_t>& regions,
                                    LabelMap& map) override;

 private:
  std::shared_ptr<const Device> device_;
  LabelKernels kernels_;
  DeviceNetwork& network_;
};

}  // namespace sgmf::cuda
