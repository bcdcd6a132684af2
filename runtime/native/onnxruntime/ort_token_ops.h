// The ops of sgmf/token_ops.h as ONNX Runtime sees them, on the CPU.
#pragma once

#include "op_domain.h"

namespace sgmf::onnxruntime {

Ops ort_token_ops(const ort::Api& api);

}  // namespace sgmf::onnxruntime
