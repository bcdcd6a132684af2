#pragma once

#include "kernels/element.h"  // the conversions of the CPU kernels

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
  return SGMF_ISA::to_float(SGMF_ISA::BFloat{x.bits});
}

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  SGMF_ISA::BFloat y;
  SGMF_ISA::from_float(x, &y);
  return {y.bits};
}
