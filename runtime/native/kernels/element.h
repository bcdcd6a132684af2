// Storage types of the kernels' tensors and their conversion to and from float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace SGMF_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

inline float bits_to_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

inline uint32_t float_to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

inline float to_float(float x) { return x; }
inline float to_float(BFloat x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }

inline float to_float(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Shifted into float's fields the exponent is 112 too small; the product mends it and
  // turns float16 subnormals into normal numbers.
  return bits_to_float(sign | float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f));
}

inline void from_float(float x, float* p) { *p = x; }

inline void from_float(float x, BFloat* p) {
  const uint32_t bits = float_to_bits(x);
  const uint32_t even = bits + 0x7fffu + ((bits >> 16) & 1u);
  p->bits = static_cast<uint16_t>((x == x ? even : bits | 0x400000u) >> 16);
}

inline void from_float(float x, Half* p) {
  const uint32_t bits = float_to_bits(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    result = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65,520 and above round to infinity
    result = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 aligns and rounds to even
    result = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    result = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  p->bits = static_cast<uint16_t>(sign | result);
}

}  // namespace SGMF_ISA
