// Any bytes as a network whose last upsampling is to be left out.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "onnxruntime/session/coarse_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto found =
      sgmf::onnxruntime::without_last_upsampling({reinterpret_cast<const char*>(data), size});
  if (found && found->model.size() > size) std::abort();
  return 0;
}
