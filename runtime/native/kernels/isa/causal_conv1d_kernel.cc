// The depthwise convolution along tokens and SiLU, compiled once for each instruction set.
#include "kernels/isa/causal_conv1d_kernel.h"

#include "kernels/isa/simd_math.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::CausalConv1d;

// Tokens that go together, so that each tap is loaded once for all of them.
constexpr int block_tokens = 4;

// `size` neighbouring outputs from `token`, of which every tap from `first` to before `last` sees
// tokens of the sequence.
template <int size>
void convolve(const Conv& conv, int64_t token, int64_t first, int64_t last) {
  const int64_t stride = conv.channels;
  const float* x = conv.x + (token - conv.before) * stride;
  float* y = conv.y + token * stride;
  for_each_vector(stride, [&](int64_t channel, auto lanes) {
    Vec sum[size];
    for (int i = 0; i < size; ++i) sum[i] = load_lanes(conv.bias + channel, lanes);
    for (int64_t k = first; k < last; ++k) {
      const Vec tap = load_lanes(conv.taps + k * stride + channel, lanes);
      for (int i = 0; i < size; ++i) {
        sum[i] = fma(load_lanes(x + (k + i) * stride + channel, lanes), tap, sum[i]);
      }
    }
    for (int i = 0; i < size; ++i) store_lanes(y + i * stride + channel, silu(sum[i]), lanes);
  });
}

}  // namespace

void causal_conv1d_silu(const Conv& conv, int64_t begin, int64_t end) {
  const int64_t after = conv.taps_count - 1 - conv.before;
  for (int64_t token = begin; token < end;) {
    const int64_t t = token % conv.length;
    const bool inside = t >= conv.before && t + block_tokens + after <= conv.length;
    if (inside && token + block_tokens <= end) {
      convolve<block_tokens>(conv, token, 0, conv.taps_count);
      token += block_tokens;
    } else {
      const int64_t first = conv.before - t;
      const int64_t last = conv.length + conv.before - t;
      convolve<1>(conv, token, first > 0 ? first : 0,
                  last < conv.taps_count ? last : conv.taps_count);
      token += 1;
    }
  }
}

}  // namespace SGMF_ISA
