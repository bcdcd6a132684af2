// The ops of sgmf/token_ops.h as ONNX Runtime sees them, on the CPU.
#pragma once

#include "onnxruntime/ops/op_domain.h"

namespace sgmf::onnxruntime {

// For sessions with that many threads.
Ops ort_token_ops(const ort::Api& api, int threads);

}  // namespace sgmf::onnxruntime
