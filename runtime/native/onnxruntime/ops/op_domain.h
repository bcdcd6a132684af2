// The domain `segmaformer` of one ONNX Runtime, with the ops that were put into it.
#pragma once

#include <memory>
#include <vector>

#include "onnxruntime/status.h"

namespace sgmf::onnxruntime {

using Ops = std::vector<std::shared_ptr<const ort::CustomOp>>;

// Sessions borrow the domain and its ops: it has to outlive them.
class OpDomain {
 public:
  // Throws StatusError.
  OpDomain(const ort::Api& api, Ops ops);
  ~OpDomain();
  OpDomain(const OpDomain&) = delete;
  OpDomain& operator=(const OpDomain&) = delete;

  // Gives the ops to sessions that will be opened with `options`. Throws StatusError.
  void add_to(ort::SessionOptions* options) const;

 private:
  ort::Api api_;
  Ops ops_;
  ort::CustomOpDomain* domain_ = nullptr;
};

}  // namespace sgmf::onnxruntime
