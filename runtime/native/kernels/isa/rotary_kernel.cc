// The rotary position code of a row of tokens, compiled once for each instruction set.
#include "kernels/isa/rotary_kernel.h"

#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

// (u, v) becomes (u cos - v sin, v cos + u sin).
void rotate_axis(int64_t half, const float* x, const float* cos, const float* sin, float* y) {
  for_each_vector(half, [&](int64_t c, auto lanes) {
    const Vec u = load_lanes(x + c, lanes);
    const Vec v = load_lanes(x + half + c, lanes);
    const auto turned = [&](Vec kept, Vec partner, int64_t at) {
      return fma(kept, load_lanes(cos + at, lanes), partner * load_lanes(sin + at, lanes));
    };
    store_lanes(y + c, turned(u, v, c), lanes);
    store_lanes(y + half + c, turned(v, u, half + c), lanes);
  });
}

}  // namespace

void rotate_row(const sgmf::RotaryRow& row, const float* x, int64_t tokens, float* y) {
  const int64_t third = 2 * row.half;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int axis = 0; axis < 3; ++axis, x += third, y += third) {
      const int64_t at = axis == 2 ? t * third : 0;
      rotate_axis(row.half, x, row.cos[axis] + at, row.sin[axis] + at, y);
    }
  }
}

}  // namespace SGMF_ISA
