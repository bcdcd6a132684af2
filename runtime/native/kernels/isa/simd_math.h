// exp, softplus and SiLU on vectors, to about one unit in the last place of float32.
//
// The polynomials are relative minimax fits: 2^r on [-1/2, 1/2] to 2e-9, atanh(s)/s in s^2 on
// [0, 1/9] to 4e-9. NaN stays NaN.
#pragma once

#include "kernels/isa/simd.h"

namespace SGMF_ISA {

constexpr float log2_e = 1.44269504088896341f;

// 2^r for r between -1/2 and 1/2.
inline Vec exp2_fraction(Vec r) {
  Vec p = splat(0.00015345944848377258f);
  p = fma(p, r, splat(0.0013399989111348987f));
  p = fma(p, r, splat(0.009618489071726799f));
  p = fma(p, r, splat(0.05550328642129898f));
  p = fma(p, r, splat(0.24022646248340607f));
  p = fma(p, r, splat(0.6931471824645996f));
  return fma(p, r, splat(1.0f));
}

// 2^(a b) for |a b| up to 125; a NaN may get lost. The product is never rounded on its own: that
// error would grow with its magnitude.
inline Vec exp2_of_bounded_product(Vec a, Vec b) {
  const Vec t = fma(a, b, splat(integer_magic));
  const Vec n = splat(integer_magic) - t;
  return add_exponent(exp2_fraction(fma(a, b, n)), t);
}

// 2^(a b) for any product: overflow becomes infinity and underflow zero.
inline Vec exp2_of_product(Vec a, Vec b) {
  const Vec one = splat(1.0f);
  const Vec magic = splat(integer_magic);
  // Two factors, since 2^n itself may not be a float. Beyond 250 the result is none either.
  const Vec n = (min(splat(250.0f), max(splat(-250.0f), a * b)) + magic) - magic;
  const Vec half = fma(n, splat(0.5f), magic);
  const Vec rest = (n - (half - magic)) + magic;
  const Vec r = min(one, max(splat(-1.0f), fma(a, b, splat(0.0f) - n)));
  return exp2_fraction(r) * add_exponent(one, half) * add_exponent(one, rest);
}

// e^x; constant beyond 86 either way, where softplus and SiLU have reached their limits to 1e-35.
inline Vec clamped_exp(Vec x) {
  return exp2_of_bounded_product(min(splat(86.0f), max(splat(-86.0f), x)), splat(log2_e));
}

// max(x, 0) + log1p(exp(-|x|)). Above 20 this equals x to float32, which is the published cut-off.
// log1p(t) = 2 atanh(t / (2 + t)) keeps its relative accuracy as t goes to zero.
inline Vec softplus(Vec x) {
  const Vec t = clamped_exp(splat(0.0f) - abs(x));
  const Vec s = t / (splat(2.0f) + t);
  const Vec q = s * s;
  Vec p = splat(0.1408921331167221f);
  p = fma(p, q, splat(0.1398036926984787f));
  p = fma(p, q, splat(0.20012442767620087f));
  p = fma(p, q, splat(0.3333315849304199f));
  p = fma(p, q, splat(1.0f));
  return fma(s + s, p, max(splat(0.0f), x));
}

inline Vec silu(Vec x) { return x / (splat(1.0f) + clamped_exp(splat(0.0f) - x)); }

}  // namespace SGMF_ISA
