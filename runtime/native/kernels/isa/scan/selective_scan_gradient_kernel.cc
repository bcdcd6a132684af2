// The gradient of the scan over one panel of channels, compiled once for each instruction set.
//
// As in the scan, channels lie across the lanes of vectors. For a vector of channels and a group
// of states, a short stretch of tokens passes twice: forwards, which finds decays and states and
// keeps them, and backwards, where the gradient of the state is
//
//   g[t] = C[t] gy[t] + k[t + 1] g[t + 1],    k[t] = exp(step[t] A),    gy = grad_y SiLU(z)
//
// and what a state of a token gives to the gradients is added up. Sums over channels, those of B
// and C, stay in lanes until all channels of the panel have passed.
#include "kernels/isa/scan/selective_scan_gradient_kernel.h"

#include <cstring>

#include "kernels/isa/scan/scan_panel.h"

namespace SGMF_ISA {
namespace {

using sgmf::GradientSpan;
using Args = sgmf_selective_scan_gradient_args;

constexpr int W = lane_count;
constexpr int most_tokens = sgmf::gradient_tokens;
constexpr float ln_2 = 0.693147180559945309f;

// With temporaries, two vectors for each state of a group fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int widest_group = 8;
#else
constexpr int widest_group = 4;
#endif

// One vector of channels of a stretch of tokens.
struct Tokens {
  alignas(64) float u[most_tokens][W];
  alignas(64) float step[most_tokens][W];
  alignas(64) float slope[most_tokens][W];  // derivative of the step by delta
  alignas(64) float drive[most_tokens][W];  // step * u
  alignas(64) float grad[most_tokens][W];   // gy
  alignas(64) float y[most_tokens][W];      // before the gate
  alignas(64) float grad_drive[most_tokens][W];
  alignas(64) float grad_step[most_tokens][W];
};

// States of a group after every token, the first row before them, and decays.
struct Kept {
  alignas(64) float state[most_tokens + 1][widest_group][W];
  alignas(64) float decay[most_tokens][widest_group][W];
};

int64_t padded(int64_t states) { return (states + W - 1) / W * W; }

inline Vec sigmoid(Vec x) { return splat(1.0f) / (splat(1.0f) + clamped_exp(splat(0.0f) - x)); }

inline void add(float* sum, Vec x) { store(sum, load(sum) + x); }

inline void add_lanes(double* sum, Vec x) {
  float lanes[W];
  store(lanes, x);
  for (int i = 0; i < W; ++i) sum[i] += lanes[i];
}

// Adds to each of `count` floats the sum of one vector of a dense array of vectors, whose number
// is a multiple of W: sums of neighbours, level by level, end as one vector of all sums.
void add_sums(const float* vectors, int64_t count, float* sums) {
  for (int64_t first = 0; first < count; first += W, vectors += W * W) {
    Vec level[W];
    for (int i = 0; i < W; ++i) level[i] = load(vectors + i * W);
    for (int width = W / 2; width; width /= 2) {
      for (int i = 0; i < width; ++i) {
        const Vec a = level[2 * i], b = level[2 * i + 1];
        level[i] = even_of(a, b) + odd_of(a, b);
      }
    }
    const int lanes = static_cast<int>(count - first < W ? count - first : W);
    store_lanes(sums + first, load_lanes(sums + first, lanes) + level[0], lanes);
  }
}

class Stretch {
 public:
  Stretch(const Args& args, const GradientSpan& span)
      : args_(args),
        scan_(args.scan),
        span_(span),
        tokens_(static_cast<int>(span.end - span.begin)),
        states_(scan_.states),
        lanes_b_(span.scratch),
        lanes_c_(lanes_b_ + most_tokens * padded(states_) * W),
        decay_(lanes_c_ + most_tokens * padded(states_) * W),
        largest_decay_(load_decay(scan_, span.channel, span.channels, decay_)) {}

  static int64_t scratch(int64_t states) {
    return 2 * most_tokens * padded(states) * W + states * panel_channels;
  }

  void run() {
    std::memset(lanes_b_, 0, 2 * most_tokens * padded(states_) * W * sizeof(float));
    for (int channel = 0; channel < span_.channels; channel += W) {
      const int lanes = span_.channels - channel < W ? span_.channels - channel : W;
      const float largest_step = load_tokens(channel, lanes);
      // As in the scan: a NaN in A makes this false, one in a step reaches the state by its drive.
      if (largest_step * largest_decay_ <= largest_bounded_exponent) {
        pass_groups<true>(channel);
      } else {
        pass_groups<false>(channel);
      }
      store_tokens(channel, lanes);
    }
    for (int t = 0; t < tokens_; ++t) {
      const int64_t at = t * padded(states_) * W;
      add_sums(lanes_b_ + at, states_, span_.grad_b + token(t) * states_);
      add_sums(lanes_c_ + at, states_, span_.grad_c + token(t) * states_);
    }
  }

 private:
  // Where a token lies in memory.
  int64_t token(int t) const {
    return scan_.reverse ? scan_.length - 1 - span_.begin - t : span_.begin + t;
  }

  int64_t row(int t) const { return span_.batch * scan_.length + token(t); }

  int64_t at(int t, int channel) const { return row(t) * scan_.channels + span_.channel + channel; }

  const float* projection(const void* tensor, int t) const {
    return static_cast<const float*>(tensor) + row(t) * states_;
  }

  // Fills the tokens of one vector of channels, zeros beyond the last channel, and returns the
  // largest magnitude of a step.
  float load_tokens(int channel, int lanes) {
    const int64_t first = span_.channel + channel;
    const auto* u = static_cast<const float*>(scan_.u);
    const auto* delta = static_cast<const float*>(scan_.delta);
    const auto* z = static_cast<const float*>(scan_.z);
    const Vec bias = scan_.delta_bias ? load_lanes(scan_.delta_bias + first, lanes) : splat(0.0f);
    const Vec skip = scan_.D ? load_lanes(scan_.D + first, lanes) : splat(0.0f);
    Vec limit = splat(0.0f);
    for (int t = 0; t < tokens_; ++t) {
      const int64_t i = at(t, channel);
      const Vec u_t = load_lanes(u + i, lanes);
      const Vec raw = load_lanes(delta + i, lanes) + bias;
      const Vec step = scan_.delta_softplus ? softplus(raw) : raw;
      Vec grad = load_lanes(args_.grad_y + i, lanes);
      if (z) grad = grad * silu(load_lanes(z + i, lanes));
      limit = max(limit, abs(step));
      store(values_.u[t], u_t);
      store(values_.step[t], step);
      store(values_.slope[t], scan_.delta_softplus ? sigmoid(raw) : splat(1.0f));
      store(values_.drive[t], step * u_t);
      store(values_.grad[t], grad);
      store(values_.y[t], skip * u_t);
      store(values_.grad_drive[t], splat(0.0f));
      store(values_.grad_step[t], splat(0.0f));
    }
    return largest(limit);
  }

  template <bool bounded>
  void pass_groups(int channel) {
    int64_t n = 0;
    for (; n + widest_group <= states_; n += widest_group) {
      pass<widest_group, bounded>(channel, n);
    }
    for (; n < states_; ++n) pass<1, bounded>(channel, n);
  }

  template <int group, bool bounded>
  void pass(int channel, int64_t first) {
    forwards<group, bounded>(channel, first);
    backwards<group>(channel, first);
  }

  template <int group, bool bounded>
  void forwards(int channel, int64_t first) {
    const float* decay = decay_ + first * panel_channels + channel;
    Vec h[group];
    for (int n = 0; n < group; ++n) {
      h[n] = load(span_.state + (first + n) * panel_channels + channel);
      store(kept_.state[0][n], h[n]);
    }
    for (int t = 0; t < tokens_; ++t) {
      const float* b = projection(scan_.B, t) + first;
      const float* c = projection(scan_.C, t) + first;
      const Vec step = load(values_.step[t]);
      const Vec drive = load(values_.drive[t]);
      Vec y = load(values_.y[t]);
#pragma GCC unroll 8
      for (int n = 0; n < group; ++n) {
        const Vec a = load(decay + n * panel_channels);
        const Vec k = bounded ? exp2_of_bounded_product(step, a) : exp2_of_product(step, a);
        h[n] = fma(k, h[n], drive * splat(b[n]));
        y = fma(h[n], splat(c[n]), y);
        store(kept_.decay[t][n], k);
        store(kept_.state[t + 1][n], h[n]);
      }
      store(values_.y[t], y);
    }
  }

  template <int group>
  void backwards(int channel, int64_t first) {
    const float* decay = decay_ + first * panel_channels + channel;
    float* adjoint = span_.adjoint + first * panel_channels + channel;
    Vec g[group], grad_a[group];
    for (int n = 0; n < group; ++n) {
      g[n] = load(adjoint + n * panel_channels);
      grad_a[n] = splat(0.0f);
    }
    for (int t = tokens_ - 1; t >= 0; --t) {
      const float* b = projection(scan_.B, t) + first;
      const float* c = projection(scan_.C, t) + first;
      float* to_b = lanes_b_ + (t * padded(states_) + first) * W;
      float* to_c = lanes_c_ + (t * padded(states_) + first) * W;
      const Vec step = load(values_.step[t]);
      const Vec drive = load(values_.drive[t]);
      const Vec grad = load(values_.grad[t]);
      Vec grad_drive = load(values_.grad_drive[t]);
      Vec grad_step = load(values_.grad_step[t]);
#pragma GCC unroll 8
      for (int n = 0; n < group; ++n) {
        const Vec grad_h = fma(grad, splat(c[n]), g[n]);
        add(to_c + n * W, load(kept_.state[t + 1][n]) * grad);
        add(to_b + n * W, grad_h * drive);
        grad_drive = fma(grad_h, splat(b[n]), grad_drive);
        g[n] = grad_h * load(kept_.decay[t][n]);
        const Vec exponent = g[n] * load(kept_.state[t][n]);
        grad_step = fma(exponent, load(decay + n * panel_channels), grad_step);
        grad_a[n] = fma(exponent, step, grad_a[n]);
      }
      store(values_.grad_drive[t], grad_drive);
      store(values_.grad_step[t], grad_step);
    }
    for (int n = 0; n < group; ++n) {
      store(adjoint + n * panel_channels, g[n]);
      add_lanes(span_.sums->a + (first + n) * panel_channels + channel, grad_a[n]);
    }
  }

  void store_tokens(int channel, int lanes) {
    const int64_t first = span_.channel + channel;
    const auto* z = static_cast<const float*>(scan_.z);
    const Vec skip = scan_.D ? load_lanes(scan_.D + first, lanes) : splat(0.0f);
    const Vec one = splat(1.0f);
    Vec sum_d = splat(0.0f), sum_bias = splat(0.0f);
    for (int t = 0; t < tokens_; ++t) {
      const int64_t i = at(t, channel);
      const Vec u = load(values_.u[t]);
      const Vec grad = load(values_.grad[t]);
      const Vec grad_drive = load(values_.grad_drive[t]);
      // The decays of grad_step are of base two.
      const Vec grad_step = fma(load(values_.grad_step[t]), splat(ln_2), grad_drive * u);
      const Vec grad_raw = grad_step * load(values_.slope[t]);
      store_lanes(args_.grad_u + i, fma(grad_drive, load(values_.step[t]), grad * skip), lanes);
      store_lanes(args_.grad_delta + i, grad_raw, lanes);
      sum_d = fma(grad, u, sum_d);
      sum_bias = sum_bias + grad_raw;
      if (!z) continue;
      const Vec z_t = load_lanes(z + i, lanes);
      const Vec open = sigmoid(z_t);
      const Vec slope = open * fma(z_t, one - open, one);
      const Vec grad_y = load_lanes(args_.grad_y + i, lanes);
      store_lanes(args_.grad_z + i, grad_y * load(values_.y[t]) * slope, lanes);
    }
    add_lanes(span_.sums->d + channel, sum_d);
    add_lanes(span_.sums->delta_bias + channel, sum_bias);
  }

  const Args& args_;
  const sgmf_selective_scan_args& scan_;
  const GradientSpan& span_;
  const int tokens_;
  const int64_t states_;
  float* const lanes_b_;  // [tokens][states, padded][W]
  float* const lanes_c_;
  float* const decay_;
  const float largest_decay_;
  Tokens values_;
  Kept kept_;
};

void run(const Args& args, const GradientSpan& span) { Stretch(args, span).run(); }

}  // namespace

extern const sgmf::ScanGradientKernel selective_scan_gradient_kernel = {Stretch::scratch, run};

}  // namespace SGMF_ISA
