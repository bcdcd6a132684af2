// ONNX Runtime's view of the op `segmaformer::SelectiveScan`, for any device.
#pragma once

#include <functional>

#include "kernels/interface/selective_scan.h"
#include "onnxruntime/ops/op_domain.h"

namespace sgmf::onnxruntime {

// One run of a node. `u` tells where the device's memory is.
struct Call {
  const ort::Api& api;
  const ort::KernelContext* context;
  const ort::Value* u;
};

// Where ops run: their execution provider, nullptr for the CPU, and the scan itself, which
// returns nullptr or a static text that says which argument is wrong.
struct Device {
  const char* provider;
  std::function<const char*(const sgmf_selective_scan_args&, const Call&)> scan;
};

// The op for every element type, on one device.
Ops scan_ops(const ort::ApiBase& base, const ort::Api& api, const Device& device);

}  // namespace sgmf::onnxruntime
