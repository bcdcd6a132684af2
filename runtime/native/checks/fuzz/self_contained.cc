// Any bytes as a network that may refer to data outside it.
#include <cstddef>
#include <cstdint>

#include "onnxruntime/self_contained.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sgmf::onnxruntime::reason_to_refuse({reinterpret_cast<const char*>(data), size});
  return 0;
}
