// Finding NaN and infinity without a branch for each number.
#pragma once

#include <cstdint>
#include <cstring>

namespace sgmf {

// The bits below the sign, which order magnitudes; infinity and NaN have the largest.
inline uint32_t magnitude_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & 0x7fffffff;
}

// Message of kernels about logits that are not finite.
inline constexpr char not_finite[] =
    "logits of a tile are NaN or infinite; run the fp32 variant, and check the scan's intensities "
    "if it fails as well";

inline bool is_finite_magnitude(uint32_t bits) { return bits < 0x7f800000; }

bool all_finite(const float* values, int64_t count, int threads);

}  // namespace sgmf
