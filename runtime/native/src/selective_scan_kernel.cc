// The scan over one block of channels, compiled once for each instruction set.
//
// Channels lie across the lanes of a vector and the states of up to `group` stay in registers
// while a tile of tokens passes. Steps, gates and conversions are prepared tile by tile, so
// nothing larger than a tile is ever stored.
#include "selective_scan_kernel.h"

#include "element.h"
#include "simd_math.h"

namespace SGMF_ISA {
namespace {

using sgmf::ScanSpan;
using Args = sgmf_selective_scan_args;

constexpr int tile_tokens = 32;
constexpr int W = lane_count;

struct Tile {
  alignas(64) float step[tile_tokens][W];
  alignas(64) float drive[tile_tokens][W];  // step * u
  alignas(64) float y[tile_tokens][W];
  float b[tile_tokens][SGMF_SCAN_MAX_STATES];
  float c[tile_tokens][SGMF_SCAN_MAX_STATES];
};

template <typename T>
Vec load_lanes(const T* p, int lanes) {
  alignas(64) float buffer[W] = {};
  for (int i = 0; i < lanes; ++i) buffer[i] = to_float(p[i]);
  return load(buffer);
}

inline Vec load_lanes(const float* p, int lanes) {
  if (lanes == W) return load(p);
  alignas(64) float buffer[W] = {};
  for (int i = 0; i < lanes; ++i) buffer[i] = p[i];
  return load(buffer);
}

template <typename T>
void store_lanes(T* p, Vec x, int lanes) {
  alignas(64) float buffer[W];
  store(buffer, x);
  for (int i = 0; i < lanes; ++i) from_float(buffer[i], p + i);
}

// A of one state for the block's channels, times log2(e) so that exp becomes exp2.
inline Vec load_decay(const Args& args, int64_t channel, int lanes, int64_t state) {
  alignas(64) float buffer[W] = {};
  for (int i = 0; i < lanes; ++i) buffer[i] = args.A[(channel + i) * args.states + state] * log2_e;
  return load(buffer);
}

// Advances `group` states over a tile and adds their share to tile.y.
template <int group>
void advance(const Tile& in, float (*y)[W], int tokens, const Vec* decay, float* state, int64_t first) {
  Vec h[group];
  for (int n = 0; n < group; ++n) h[n] = load(state + n * W);
  for (int t = 0; t < tokens; ++t) {
    const Vec step = load(in.step[t]);
    const Vec drive = load(in.drive[t]);
    // A sum of its own for each group: one long chain over 256 states would lose digits.
    Vec sum = splat(0.0f);
    for (int n = 0; n < group; ++n) {
      h[n] = fma(exp2_of_product(step, decay[n]), h[n], drive * splat(in.b[t][first + n]));
      sum = fma(h[n], splat(in.c[t][first + n]), sum);
    }
    store(y[t], load(y[t]) + sum);
  }
  for (int n = 0; n < group; ++n) store(state + n * W, h[n]);
}

void advance_all(Tile& tile, int tokens, const Vec* decay, float* state, int64_t states) {
  int64_t n = 0;
  const auto pass = [&](auto size, auto run) {
    for (; n + size <= states; n += size) run(tile, tile.y, tokens, decay + n, state + n * W, n);
  };
  // Sixteen states fit the 32 registers of AVX-512 and NEON, eight the 16 of the others.
#if defined(__AVX512F__) || defined(__ARM_NEON)
  pass(16, advance<16>);
#endif
  pass(8, advance<8>);
  pass(4, advance<4>);
  pass(1, advance<1>);
}

template <typename T>
void run_span(const Args& args, const ScanSpan& span) {
  const int64_t channel = span.block * W;
  const int lanes = static_cast<int>(args.channels - channel < W ? args.channels - channel : W);
  const int64_t states = args.states;
  Vec decay[SGMF_SCAN_MAX_STATES];
  for (int64_t n = 0; n < states; ++n) decay[n] = load_decay(args, channel, lanes, n);
  const Vec bias = args.delta_bias ? load_lanes(args.delta_bias + channel, lanes) : splat(0.0f);
  const Vec skip = args.D ? load_lanes(args.D + channel, lanes) : splat(0.0f);
  Vec step_sum = splat(0.0f);
  Tile tile;

  for (int64_t begin = span.begin; begin < span.end; begin += tile_tokens) {
    const int tokens = static_cast<int>(span.end - begin < tile_tokens ? span.end - begin : tile_tokens);
    const auto row = [&](int t) {
      const int64_t token = args.reverse ? args.length - 1 - (begin + t) : begin + t;
      return span.batch * args.length + token;
    };
    for (int t = 0; t < tokens; ++t) {
      const int64_t at = row(t) * args.channels + channel;
      const Vec u = load_lanes(static_cast<const T*>(args.u) + at, lanes);
      Vec step = load_lanes(static_cast<const T*>(args.delta) + at, lanes) + bias;
      if (args.delta_softplus) step = softplus(step);
      step_sum = step_sum + step;
      store(tile.step[t], step);
      store(tile.drive[t], step * u);
      store(tile.y[t], skip * u);
      const T* b = static_cast<const T*>(args.B) + row(t) * states;
      const T* c = static_cast<const T*>(args.C) + row(t) * states;
      for (int64_t n = 0; n < states; ++n) tile.b[t][n] = to_float(b[n]);
      for (int64_t n = 0; n < states; ++n) tile.c[t][n] = to_float(c[n]);
    }
    advance_all(tile, tokens, decay, span.state, states);
    if (!span.write_y) continue;
    for (int t = 0; t < tokens; ++t) {
      const int64_t at = row(t) * args.channels + channel;
      Vec y = load(tile.y[t]);
      if (args.z) y = y * silu(load_lanes(static_cast<const T*>(args.z) + at, lanes));
      store_lanes(static_cast<T*>(args.y) + at, y, lanes);
    }
  }
  if (span.step_sum) store(span.step_sum, step_sum);
}

void run(const Args& args, const ScanSpan& span) {
  switch (args.element_type) {
    case SGMF_FLOAT32: return run_span<float>(args, span);
    case SGMF_FLOAT16: return run_span<Half>(args, span);
    default: return run_span<BFloat>(args, span);
  }
}

void add_carry(const Args& args, int64_t block, const float* step_sum, const float* carry, float* state) {
  const int64_t channel = block * W;
  const int lanes = static_cast<int>(args.channels - channel < W ? args.channels - channel : W);
  const Vec sum = load(step_sum);
  for (int64_t n = 0; n < args.states; ++n) {
    const Vec decay = exp2_of_product(sum, load_decay(args, channel, lanes, n));
    store(state + n * W, fma(decay, load(carry + n * W), load(state + n * W)));
  }
}

}  // namespace

extern const sgmf::ScanKernel selective_scan_kernel = {SGMF_ISA_NAME, W, run, add_carry};

}  // namespace SGMF_ISA
