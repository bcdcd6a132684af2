// ONNX Runtime's view of the ops in kernels/interface/token_ops.h, on the CPU.
#pragma once

#include "onnxruntime/ops/op_domain.h"

namespace sgmf::onnxruntime {

// For sessions with that many threads.
Ops ort_token_ops(const ort::Api& api, int threads);

}  // namespace sgmf::onnxruntime
