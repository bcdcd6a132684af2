// The scan over one panel of channels, compiled once for each instruction set.
//
// Channels lie across the lanes of vectors; the states of one vector of channels, up to `group` of
// them, stay in registers while a tile of tokens passes. Steps, gates and conversions are prepared
// tile by tile, so nothing larger than a tile is ever stored, and all channels of a panel share
// the tile's B and C.
#include "kernels/isa/scan/selective_scan_kernel.h"

#include <type_traits>

#include "kernels/isa/scan/scan_panel.h"

namespace SGMF_ISA {
namespace {

using sgmf::ScanSpan;
using Args = sgmf_selective_scan_args;

constexpr int W = lane_count;
constexpr int tile_tokens = 16;

struct Tile {
  alignas(64) float step[tile_tokens][panel_channels];
  alignas(64) float drive[tile_tokens][panel_channels];  // step * u
  alignas(64) float y[tile_tokens][panel_channels];
  const float* b;  // states of the first token; those of the next are `stride` floats further
  const float* c;
  int64_t stride;
  float b_converted[tile_tokens * SGMF_SCAN_MAX_STATES];
  float c_converted[tile_tokens * SGMF_SCAN_MAX_STATES];
};

template <typename T>
void convert(const T* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + W <= count; i += W) store(to + i, load(from + i));
  if (i < count)
    store_lanes(to + i, load_lanes(from + i, static_cast<int>(count - i)),
                static_cast<int>(count - i));
}

// Advances `group` states of the channels from `channel` over a tile and adds their share to y.
template <int group, bool bounded>
void advance(Tile& tile, int tokens, int channel, const float* decay, float* state, int64_t first) {
  Vec h[group];
  for (int n = 0; n < group; ++n) h[n] = load(state + n * panel_channels);
  const float* b = tile.b + first;
  const float* c = tile.c + first;
  for (int t = 0; t < tokens; ++t, b += tile.stride, c += tile.stride) {
    const Vec step = load(tile.step[t] + channel);
    const Vec drive = load(tile.drive[t] + channel);
    // Two short sums: one long chain over 256 states would lose digits and time.
    Vec sum[2] = {splat(0.0f), splat(0.0f)};
#pragma GCC unroll 16
    for (int n = 0; n < group; ++n) {
      const Vec a = load(decay + n * panel_channels);
      const Vec kept = bounded ? exp2_of_bounded_product(step, a) : exp2_of_product(step, a);
      h[n] = fma(kept, h[n], drive * splat(b[n]));
      sum[n % 2] = fma(h[n], splat(c[n]), sum[n % 2]);
    }
    store(tile.y[t] + channel, load(tile.y[t] + channel) + (sum[0] + sum[1]));
  }
  for (int n = 0; n < group; ++n) store(state + n * panel_channels, h[n]);
}

template <bool bounded>
void advance_all(Tile& tile, int tokens, int channel, const float* decay, float* state,
                 int64_t states) {
  int64_t n = 0;
  const auto pass = [&](auto size, auto run) {
    for (; n + size <= states; n += size) {
      run(tile, tokens, channel, decay + n * panel_channels, state + n * panel_channels, n);
    }
  };
  // With constants and temporaries, sixteen states fit the 32 registers of AVX-512; the compilers
  // keep no more than eight in those of NEON and AVX2.
#if defined(__AVX512F__)
  pass(16, advance<16, bounded>);
#endif
  pass(8, advance<8, bounded>);
  pass(4, advance<4, bounded>);
  pass(1, advance<1, bounded>);
}

// One vector of channels of a (batch, length, channels) tensor: its tokens in the order of the
// scan.
template <typename T>
class Column {
 public:
  Column(T* first, int64_t stride, int lanes, T* tensor_end)
      : first_(first),
        stride_(stride),
        lanes_(lanes),
        tensor_end_(tensor_end) {}

  void prefetch_read(int64_t token) const { __builtin_prefetch(at(token)); }
  void prefetch_write(int64_t token) const { __builtin_prefetch(at(token), 1); }

  // Lanes beyond the last channel hold any values.
  Vec load(int64_t token) const {
    return tensor_end_ - at(token) >= W ? SGMF_ISA::load(at(token)) : load_lanes(at(token), lanes_);
  }

  void store(int64_t token, Vec x) const { store_lanes(at(token), x, lanes_); }

 private:
  T* at(int64_t token) const { return first_ + token * stride_; }

  T* first_;
  int64_t stride_;
  int lanes_;
  T* tensor_end_;
};

// One panel on its way along one span of the sequence.
template <typename T>
class Panel {
 public:
  Panel(const Args& args, const ScanSpan& span)
      : args_(args),
        span_(span),
        largest_decay_(load_decay(args, span.channel, span.channels, decay_)) {}

  void run() {
    for (int64_t begin = span_.begin; begin < span_.end; begin += tile_tokens) {
      const int tokens =
          static_cast<int>(span_.end - begin < tile_tokens ? span_.end - begin : tile_tokens);
      load_projections(begin, tokens);
      for (int channel = 0; channel < span_.channels; channel += W) {
        const int lanes = span_.channels - channel < W ? span_.channels - channel : W;
        const float largest_step = load_tokens(begin, tokens, channel, lanes);
        // A NaN in A makes this false; one in a step reaches the state through `drive`.
        const bool bounded = largest_step * largest_decay_ <= largest_bounded_exponent;
        const auto advance_tile = bounded ? advance_all<true> : advance_all<false>;
        advance_tile(tile_, tokens, channel, decay_ + channel, span_.state + channel, args_.states);
        if (span_.write_y) store_tokens(begin, tokens, channel, lanes);
      }
    }
  }

 private:
  int64_t row(int64_t token) const {
    return span_.batch * args_.length + (args_.reverse ? args_.length - 1 - token : token);
  }

  template <typename U>
  Column<U> column(U* tensor, int64_t begin, int channel, int lanes) const {
    return {tensor + row(begin) * args_.channels + span_.channel + channel,
            args_.reverse ? -args_.channels : args_.channels, lanes,
            tensor + args_.batch * args_.length * args_.channels};
  }

  void load_projections(int64_t begin, int tokens) {
    tile_.b = load_projection(args_.B, begin, tokens, tile_.b_converted);
    tile_.c = load_projection(args_.C, begin, tokens, tile_.c_converted);
    tile_.stride = args_.reverse ? -args_.states : args_.states;
  }

  // B or C of the tile's first token as floats, in place where they are floats already.
  const float* load_projection(const void* tensor, int64_t begin, int tokens,
                               float* converted) const {
    const T* first = static_cast<const T*>(tensor) + row(begin) * args_.states;
    if constexpr (std::is_same_v<T, float>) return first;
    const int64_t before = args_.reverse ? (tokens - 1) * args_.states : 0;
    convert(first - before, tokens * args_.states, converted);
    return converted + before;
  }

  // Fills the tile for one vector of channels and returns the largest magnitude of a step.
  float load_tokens(int64_t begin, int tokens, int channel, int lanes) {
    const int64_t first = span_.channel + channel;
    const Vec bias = args_.delta_bias ? load_lanes(args_.delta_bias + first, lanes) : splat(0.0f);
    const Vec skip = args_.D ? load_lanes(args_.D + first, lanes) : splat(0.0f);
    const auto u_column = column(static_cast<const T*>(args_.u), begin, channel, lanes);
    const auto delta_column = column(static_cast<const T*>(args_.delta), begin, channel, lanes);
    Vec limit = splat(0.0f);
    Vec total = load(span_.step_sum + channel);
    for (int t = 0; t < tokens; ++t) {
      u_column.prefetch_read(t + tile_tokens);
      delta_column.prefetch_read(t + tile_tokens);
      const Vec u = u_column.load(t);
      Vec step = delta_column.load(t) + bias;
      if (args_.delta_softplus) step = softplus(step);
      limit = max(limit, abs(step));
      total = total + step;
      store(tile_.step[t] + channel, step);
      store(tile_.drive[t] + channel, step * u);
      store(tile_.y[t] + channel, skip * u);
    }
    store(span_.step_sum + channel, total);
    return largest(limit);
  }

  void store_tokens(int64_t begin, int tokens, int channel, int lanes) const {
    const auto y_column = column(static_cast<T*>(args_.y), begin, channel, lanes);
    const auto z_column =
        column(static_cast<const T*>(args_.z ? args_.z : args_.y), begin, channel, lanes);
    for (int t = 0; t < tokens; ++t) {
      z_column.prefetch_read(t + tile_tokens);
      y_column.prefetch_write(t + tile_tokens);
      Vec y = load(tile_.y[t] + channel);
      if (args_.z) y = y * silu(z_column.load(t));
      y_column.store(t, y);
    }
  }

  const Args& args_;
  const ScanSpan& span_;
  alignas(64) float decay_[SGMF_SCAN_MAX_STATES * panel_channels];
  const float largest_decay_;
  Tile tile_;
};

void run(const Args& args, const ScanSpan& span) {
  switch (args.element_type) {
    case SGMF_FLOAT32: return Panel<float>(args, span).run();
    case SGMF_FLOAT16: return Panel<Half>(args, span).run();
    default: return Panel<BFloat>(args, span).run();
  }
}

void add_carry(const Args& args, const ScanSpan& span, const float* carry) {
  alignas(64) float decay[SGMF_SCAN_MAX_STATES * panel_channels];
  load_decay(args, span.channel, span.channels, decay);
  for (int64_t n = 0; n < args.states; ++n) {
    for (int channel = 0; channel < span.channels; channel += W) {
      const int64_t at = n * panel_channels + channel;
      const Vec kept = exp2_of_product(load(span.step_sum + channel), load(decay + at));
      store(span.state + at, fma(kept, load(carry + at), load(span.state + at)));
    }
  }
}

}  // namespace

extern const sgmf::ScanKernel selective_scan_kernel = {run, add_carry};

}  // namespace SGMF_ISA
