// Minimal filtering: `outputs` neighbouring outputs of three taps at a stride of one or two, from
// as many products as they see inputs.
//
// Toom and Cook's interpolation in the form of Lavin and Gray, "Fast algorithms for convolutional
// neural networks", 2016. F(2, 3) has the points 0, 1, -1 and infinity, where its transforms are
// sums alone: of inputs d and taps g it takes the products
//   m = ((d0 - d2) g0, (d1 + d2) (g0 + g1 + g2)/2, (d2 - d1) (g0 - g1 + g2)/2, (d1 - d3) g2)
// for y = (m0 + m1 + m2, m1 - m2 - m3).
// F(4, 3) has 0, a, -a, b, -b and infinity. With a = 3/4 and b = 3/2 every factor of inputs and
// products is exact in float32, and the largest error over two axes is that of a plain float32 sum;
// with the usual 1 and 2 it is four times as large.
// At a stride of two the even inputs meet the outer taps and the odd ones the middle tap: F(2, 2)
// and plain products give
//   m = ((d0 - d2) g0, d2 (g0 + g2), (d2 - d4) g2, d1 g1, d3 g1)
//   y = (m0 + m1 + m3, m1 - m2 + m4).
#pragma once

#include "kernels/isa/simd.h"

namespace SGMF_ISA {

template <int count, int at_stride>
struct FilterSizes {
  static constexpr int outputs = count;
  static constexpr int stride = at_stride;
  static constexpr int span = outputs * stride;              // from one tile's inputs to the next's
  static constexpr int points = (outputs - 1) * stride + 3;  // and inputs
};

// Transforms of inputs, products and taps, which they read `step` apart.
template <int outputs, int stride>
struct MinimalFilter;

template <>
struct MinimalFilter<2, 1> : FilterSizes<2, 1> {
  static inline void inputs(const Vec* d, int step, Vec* out) {
    out[0] = d[0] - d[2 * step];
    out[1] = d[step] + d[2 * step];
    out[2] = d[2 * step] - d[step];
    out[3] = d[step] - d[3 * step];
  }

  static inline void products(const Vec* m, int step, Vec* y) {
    y[0] = m[0] + (m[step] + m[2 * step]);
    y[1] = (m[step] - m[2 * step]) - m[3 * step];
  }

  template <typename T>
  static inline void taps(const T* g, int step, T* out, int out_step) {
    const T outer = (g[0] + g[2 * step]) * 0.5;
    const T inner = g[step] * 0.5;
    out[0] = g[0];
    out[out_step] = outer + inner;
    out[2 * out_step] = outer - inner;
    out[3 * out_step] = g[2 * step];
  }
};

template <>
struct MinimalFilter<2, 2> : FilterSizes<2, 2> {
  static inline void inputs(const Vec* d, int step, Vec* out) {
    out[0] = d[0] - d[2 * step];
    out[1] = d[2 * step];
    out[2] = d[2 * step] - d[4 * step];
    out[3] = d[step];
    out[4] = d[3 * step];
  }

  static inline void products(const Vec* m, int step, Vec* y) {
    y[0] = (m[0] + m[step]) + m[3 * step];
    y[1] = (m[step] - m[2 * step]) + m[4 * step];
  }

  template <typename T>
  static inline void taps(const T* g, int step, T* out, int out_step) {
    out[0] = g[0];
    out[out_step] = g[0] + g[2 * step];
    out[2 * out_step] = g[2 * step];
    out[3 * out_step] = g[step];
    out[4 * out_step] = g[step];
  }
};

template <>
struct MinimalFilter<4, 1> : FilterSizes<4, 1> {
  static constexpr float a = 0.75f;
  static constexpr float b = 1.5f;
  static constexpr float a2 = a * a;
  static constexpr float b2 = b * b;

  static inline void inputs(const Vec* d, int step, Vec* out) {
    const Vec d1 = d[step];
    const Vec d2 = d[2 * step];
    const Vec d3 = d[3 * step];
    const Vec d4 = d[4 * step];
    const Vec middle = splat(-(a2 + b2));
    const Vec even_a = fma(splat(-b2), d2, d4);
    const Vec even_b = fma(splat(-a2), d2, d4);
    const Vec odd_a = splat(a) * fma(splat(-b2), d1, d3);
    const Vec odd_b = splat(b) * fma(splat(-a2), d1, d3);
    out[0] = fma(splat(a2 * b2), d[0], fma(middle, d2, d4));
    out[1] = even_a + odd_a;
    out[2] = even_a - odd_a;
    out[3] = even_b + odd_b;
    out[4] = even_b - odd_b;
    out[5] = fma(splat(a2 * b2), d1, fma(middle, d3, d[5 * step]));
  }

  static inline void products(const Vec* m, int step, Vec* y) {
    const Vec even_a = m[step] + m[2 * step];
    const Vec odd_a = m[step] - m[2 * step];
    const Vec even_b = m[3 * step] + m[4 * step];
    const Vec odd_b = m[3 * step] - m[4 * step];
    y[0] = m[0] + (even_a + even_b);
    y[1] = fma(splat(a), odd_a, splat(b) * odd_b);
    y[2] = fma(splat(a2), even_a, splat(b2) * even_b);
    y[3] = fma(splat(a2 * a), odd_a, fma(splat(b2 * b), odd_b, m[5 * step]));
  }

  template <typename T>
  static inline void taps(const T* g, int step, T* out, int out_step) {
    const auto pair = [&](double p, double other, T* at) {
      const double p2 = p * p;
      const double factor = 1 / (2 * p2 * (p2 - other * other));
      const T outer = (g[0] + g[2 * step] * p2) * factor;
      const T inner = g[step] * (p * factor);
      at[0] = outer + inner;
      at[out_step] = outer - inner;
    };
    out[0] = g[0] * (1 / (static_cast<double>(a2) * b2));
    pair(a, b, out + out_step);
    pair(b, a, out + 3 * out_step);
    out[5 * out_step] = g[2 * step];
  }
};

}  // namespace SGMF_ISA
