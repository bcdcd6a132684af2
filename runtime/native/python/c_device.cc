#include "python/c_device.h"

#include <vector>

#include "cuda/sums/device_check.h"
#include "python/c_conversions.h"

namespace sgmf {

CallbackDevice::CallbackDevice(const sgmf_device& given, int64_t tiles_at_once, void* user)
    : given_(given),
      tiles_at_once_(tiles_at_once),
      user_(user),
      logits_(std::make_shared<const cuda::Device>(given.driver), given.kernels, *this) {}

void CallbackDevice::start(const float* tiles, int64_t count, cuda::DeviceLogits* logits) {
  std::vector<sgmf_device_logits> found(static_cast<std::size_t>(count));
  expect_zero(given_.run(user_, tiles, count, found.data()));
  for (const sgmf_device_logits& each : found) {
    if (!each.address) throw Stopped();  // one that did not come to its end gives none
    *logits++ = {each.address, each.computed, each.used};
  }
}

}  // namespace sgmf

extern "C" int32_t sgmf_check_device(const sgmf_device* device, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    sgmf::cuda::check_labels(std::make_shared<const sgmf::cuda::Device>(device->driver),
                             device->kernels);
  });
}
