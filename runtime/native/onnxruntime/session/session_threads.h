// The threads of the session that runs a node.
#pragma once

#include "kernels/parallel.h"
#include "onnxruntime/ops/op_support.h"

namespace sgmf::onnxruntime {

inline ParallelFor session_threads(const ort::Api& api, const ort::KernelContext* context) {
  return [&api, context](size_t tasks, const std::function<void(size_t)>& task) {
    const auto run = [](void* data, size_t i) {
      (*static_cast<const std::function<void(size_t)>*>(data))(i);
    };
    require(
        api.parallel_for(context, run, tasks, 0, const_cast<std::function<void(size_t)>*>(&task)));
  };
}

}  // namespace sgmf::onnxruntime
