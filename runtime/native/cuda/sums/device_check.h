// Whether a device sums tiles and labels voxels as the processor does.
#pragma once

#include <memory>
#include <string>

#include "cuda/driver/device.h"

namespace sgmf::cuda {

// Labels a small image on both; `kernels` is the path of libsgmf_cuda. Throws BackendMissing: there
// is no such library. Throws Error(backend): the device cannot run it, or other labels came out.
void check_labels(const std::shared_ptr<const Device>& device, const std::string& kernels);

}  // namespace sgmf::cuda
