// The memory of a session's tensors on the CPU.
#pragma once

#include "onnxruntime/abi.h"

namespace sgmf::onnxruntime {

// Lets sessions that will be opened with `options` take their memory from a PagePool in place of
// ONNX Runtime's arena, whose holes cost up to half as much again. Leaves the arena where pages
// cannot be moved, where ONNX Runtime's environment cannot be had, or where it has an allocator of
// the program's. Throws StatusError.
void use_page_pool(const ort::Api& api, ort::SessionOptions* options);

}  // namespace sgmf::onnxruntime
