// libonnxruntime, found and loaded at run time: nothing is linked to it.
#pragma once

#include <string>

#include "onnxruntime/abi.h"

namespace sgmf::onnxruntime {

class Library {
 public:
  // Loads the library at `path`, or the one that SGMF_ONNXRUNTIME names. If neither is set: that of
  // the Python environment in which this code is installed, of the one in VIRTUAL_ENV, then the
  // system's. Throws BackendMissing, with all paths that were tried.
  //
  // ONNX Runtime's official builds send usage data and keep an identifier of the machine from 1.29
  // on, unless ORT_DISABLE_TELEMETRY is 1 when they are first loaded: where it is not set, it is
  // set to 1 for this process.
  explicit Library(const std::string& path);

  const ort::ApiBase& base() const { return *base_; }
  ort::Api api() const { return ort::Api(table_); }
  const char* version() const { return base_->GetVersionString(); }
  // Whether ORT_DISABLE_TELEMETRY is other than 0.
  bool keeps_quiet() const;

 private:
  const ort::ApiBase* base_;
  const void* const* table_;
};

}  // namespace sgmf::onnxruntime
