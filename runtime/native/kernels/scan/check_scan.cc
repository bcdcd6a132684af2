#include "kernels/scan/selective_scan.h"

namespace sgmf {

const char* check(const sgmf_selective_scan_args& args) {
  if (args.element_type < SGMF_FLOAT32 || args.element_type > SGMF_BFLOAT16) {
    return "element_type is none of float32, float16 and bfloat16";
  }
  if (args.batch < 0 || args.length < 0 || args.channels < 0) {
    return "batch, length and channels may not be negative";
  }
  if (args.states < 1 || args.states > SGMF_SCAN_MAX_STATES) {
    return "the number of states must lie between 1 and 256";
  }
  if (args.batch && args.length && args.channels &&
      !(args.u && args.delta && args.A && args.B && args.C && args.y)) {
    return "u, delta, A, B, C and y may not be NULL";
  }
  return nullptr;
}

}  // namespace sgmf
