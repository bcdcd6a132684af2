// The op `segmaformer::SelectiveScan` as ONNX Runtime sees it, whatever device it runs on.
//
// Every entry point that ONNX Runtime calls runs its body inside `guarded`, so that no exception
// leaves a library.
#pragma once

#include <functional>
#include <stdexcept>

#include "abi.h"
#include "sgmf/selective_scan.h"

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

// A new domain with the ops for all element types. Sessions only borrow both, so neither is
// ever freed: make one for each kind of session, not for each session.
ort::CustomOpDomain* make_domain(const ort::ApiBase& base, const ort::Api& api,
                                 const Device& device);

}  // namespace sgmf::onnxruntime
