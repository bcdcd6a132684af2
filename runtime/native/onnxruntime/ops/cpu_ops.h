// Every op of the domain `segmaformer` that runs on the CPU.
#pragma once

#include "onnxruntime/ops/op_domain.h"

namespace sgmf::onnxruntime {

// For sessions with that many threads; more than a session has cost time.
Ops cpu_ops(const ort::ApiBase& base, const ort::Api& api, int threads);

}  // namespace sgmf::onnxruntime
