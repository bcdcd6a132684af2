// Statuses of ONNX Runtime as exceptions, and back.
//
// Every entry point that ONNX Runtime calls runs its body inside `guarded`, so that no exception
// leaves a library.
#pragma once

#include <stdexcept>

#include "onnxruntime/abi.h"

namespace sgmf::onnxruntime {

// A failed status on its way back to ONNX Runtime, which takes ownership.
struct StatusError {
  ort::Status* status;
};

inline void require(ort::Status* status) {
  if (status) throw StatusError{status};
}

template <typename F>
ort::Status* guarded(const ort::Api& api, F&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const StatusError& error) {
    return error.status;
  } catch (const std::invalid_argument& error) {
    return api.create_status(ort::invalid_argument, error.what());
  } catch (const std::exception& error) {
    return api.create_status(ort::fail, error.what());
  }
}

}  // namespace sgmf::onnxruntime
