// Any bytes as a compressed image of any size.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "python/run_lengths.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const int32_t width = data[0] % 5;
  const int64_t count = data[1] | (data[2] & 0x0f) << 8;
  std::vector<uint8_t> out(static_cast<size_t>(width * count));
  sgmf_decode_run_lengths(data + 3, static_cast<int64_t>(size) - 3, count, width, out.data());
  return 0;
}
