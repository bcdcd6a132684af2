// libonnxruntime, found and loaded at run time: nothing is linked to it.
#pragma once

#include <stdexcept>
#include <string>

#include "abi.h"

namespace sgmf::onnxruntime {

// ONNX Runtime was not found, cannot be loaded or is too old.
struct LibraryMissing : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Library {
 public:
  // Loads the library at `path`, or that which SGMF_ONNXRUNTIME names. Where neither says
  // anything: that of the Python environment in which this code is installed, of the one in
  // VIRTUAL_ENV, then the system's. Throws LibraryMissing, with all that was tried.
  explicit Library(const std::string& path);

  const ort::ApiBase& base() const { return *base_; }
  ort::Api api() const { return ort::Api(table_); }
  const char* version() const { return base_->GetVersionString(); }

 private:
  const ort::ApiBase* base_;
  const void* const* table_;
};

}  // namespace sgmf::onnxruntime
