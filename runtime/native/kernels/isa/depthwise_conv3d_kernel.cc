// The depthwise 3x3x3 convolution of token-major rows, compiled once for each instruction set.
//
// Channels lie across the lanes. A block of neighbouring outputs stays in registers while the
// nine rows around them pass; each input is loaded once a row and feeds three outputs.
#include "kernels/isa/depthwise_conv3d_kernel.h"

#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

using Conv = sgmf::DepthwiseConv3d;

// Sums, three taps and an input must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int block_width = 16;
#else
constexpr int block_width = 8;
#endif

// One of the rows that a row of outputs sees, with the first of its three taps.
struct Line {
  const float* x;
  const float* taps;
};

struct Lines {
  Line line[9];
  int count;
  const float* ahead;  // the row that the same row two planes on will see first
};

// Rows outside the volume are zero and left out.
Lines find_lines(const Conv& conv, int64_t row) {
  const int64_t h = row % conv.height;
  const int64_t d = row / conv.height % conv.depth;
  Lines found;
  found.count = 0;
  found.ahead =
      conv.x + (d + 2 < conv.depth ? row + 2 * conv.height : row) * conv.width * conv.channels;
  for (int kd = 0; kd < 3; ++kd) {
    if (d + kd < 1 || d + kd > conv.depth) continue;
    for (int kh = 0; kh < 3; ++kh) {
      if (h + kh < 1 || h + kh > conv.height) continue;
      const int64_t from = row + (kd - 1) * conv.height + kh - 1;
      found.line[found.count++] = {conv.x + from * conv.width * conv.channels,
                                   conv.taps + (kd * 3 + kh) * 3 * conv.channels};
    }
  }
  return found;
}

// Keeps compilers from loading a vector anew for each of its uses: loads are what is scarce.
inline Vec keep(Vec a) {
#if defined(__ARM_NEON)
  asm("" : "+w"(a.v));
#elif defined(__AVX512F__)
  asm("" : "+v"(a.v));
#elif defined(__x86_64__)
  asm("" : "+x"(a.v));
#endif
  return a;
}

// `size` outputs from position w of a row, for `lanes` channels from `channel`.
template <int size, typename Lanes>
void convolve(const Conv& conv, const Lines& lines, int64_t w, int64_t channel, Lanes lanes,
              float* y) {
  const int64_t stride = conv.channels;
  const float* ahead = lines.ahead + w * stride + channel;
  for (int i = 0; i < size; ++i) __builtin_prefetch(ahead + i * stride, 0, 2);
  for (int i = 0; i < size; ++i) __builtin_prefetch(y + (w + i) * stride + channel, 1);
  Vec sum[size];
  const Vec bias = load_lanes(conv.bias + channel, lanes);
  for (int i = 0; i < size; ++i) sum[i] = bias;
  for (int n = 0; n < lines.count; ++n) {
    const float* taps = lines.line[n].taps + channel;
    const Vec left = load_lanes(taps, lanes);
    const Vec centre = load_lanes(taps + stride, lanes);
    const Vec right = load_lanes(taps + 2 * stride, lanes);
    const float* x = lines.line[n].x + w * stride + channel;
    if (w > 0) sum[0] = fma(load_lanes(x - stride, lanes), left, sum[0]);
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) {
      const Vec input = keep(load_lanes(x + i * stride, lanes));
      if (i > 0) sum[i - 1] = fma(input, right, sum[i - 1]);
      sum[i] = fma(input, centre, sum[i]);
      if (i + 1 < size) sum[i + 1] = fma(input, left, sum[i + 1]);
    }
    if (w + size < conv.width) {
      sum[size - 1] = fma(load_lanes(x + size * stride, lanes), right, sum[size - 1]);
    }
  }
  for (int i = 0; i < size; ++i) {
    store_lanes(y + (w + i) * stride + channel, sum[i], lanes);
  }
}

template <int size>
void convolve_block(const Conv& conv, const Lines& lines, int64_t w, float* y) {
  for_each_vector(conv.channels, [&](int64_t channel, auto lanes) {
    convolve<size>(conv, lines, w, channel, lanes, y);
  });
}

void convolve_row(const Conv& conv, int64_t row) {
  const Lines lines = find_lines(conv, row);
  float* y = conv.y + row * conv.width * conv.channels;
  int64_t w = 0;
  const auto pass = [&](int size, auto convolve_block) {
    for (; w + size <= conv.width; w += size) convolve_block(conv, lines, w, y);
  };
  pass(block_width, convolve_block<block_width>);
  pass(8, convolve_block<8>);
  pass(4, convolve_block<4>);
  pass(1, convolve_block<1>);
}

}  // namespace

void depthwise_conv3d(const Conv& conv, const sgmf::RowBlock& rows) {
  for (int64_t d = rows.depth_begin; d < rows.depth_end; ++d) {
    for (int64_t h = rows.height_begin; h < rows.height_end; ++h) {
      convolve_row(conv, (rows.batch * conv.depth + d) * conv.height + h);
    }
  }
}

}  // namespace SGMF_ISA
