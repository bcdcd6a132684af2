#pragma once

#include "kernels/element.h"  // the conversions of the CPU kernels

struct __half {
  uint16_t bits;
};

inline float __half2float(__half x) { return SGMF_ISA::to_float(SGMF_ISA::Half{x.bits}); }

inline __half __float2half_rn(float x) {
  SGMF_ISA::Half y;
  SGMF_ISA::from_float(x, &y);
  return {y.bits};
}
