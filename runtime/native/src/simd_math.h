// exp, softplus and SiLU on vectors, to about one unit in the last place of float32.
//
// The polynomials are relative minimax fits: 2^r on [-1/2, 1/2] to 2e-9, atanh(s)/s in s^2 on
// [0, 1/9] to 4e-9. NaN stays NaN, overflow becomes infinity and underflow zero.
#pragma once

#include "simd.h"

namespace SGMF_ISA {

constexpr float log2_e = 1.44269504088896341f;

// 2^(a b). The product is never rounded on its own: that error would grow with its magnitude.
inline Vec exp2_of_product(Vec a, Vec b) {
  const Vec n = round(a * b);
  // Outside -1..1 lie only products whose power is 0 or infinity.
  const Vec r = min(splat(1.0f), max(splat(-1.0f), fma(a, b, splat(0.0f) - n)));
  Vec p = splat(0.00015345944848377258f);
  p = fma(p, r, splat(0.0013399989111348987f));
  p = fma(p, r, splat(0.009618489071726799f));
  p = fma(p, r, splat(0.05550328642129898f));
  p = fma(p, r, splat(0.24022646248340607f));
  p = fma(p, r, splat(0.6931471824645996f));
  p = fma(p, r, splat(1.0f));
  return scale(p, n);
}

inline Vec exp(Vec x) { return exp2_of_product(x, splat(log2_e)); }

// max(x, 0) + log1p(exp(-|x|)). Above 20 this equals x to float32, which is the published cut-off.
// log1p(t) = 2 atanh(t / (2 + t)) keeps its relative accuracy as t goes to zero.
inline Vec softplus(Vec x) {
  const Vec t = exp(splat(0.0f) - abs(x));
  const Vec s = t / (splat(2.0f) + t);
  const Vec q = s * s;
  Vec p = splat(0.1408921331167221f);
  p = fma(p, q, splat(0.1398036926984787f));
  p = fma(p, q, splat(0.20012442767620087f));
  p = fma(p, q, splat(0.3333315849304199f));
  p = fma(p, q, splat(1.0f));
  return fma(s + s, p, max(splat(0.0f), x));
}

inline Vec silu(Vec x) { return x / (splat(1.0f) + exp(splat(0.0f) - x)); }

}  // namespace SGMF_ISA
