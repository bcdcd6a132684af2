// Trilinear upsampling, compiled once for each instruction set: depth and height first, at the
// low width, then width.
#include "kernels/isa/upsample_kernel.h"

#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

using sgmf::Tap;

inline Vec lerp(Vec low, Vec high, Vec weight) { return fma(weight, high - low, low); }

// One row of `size` floats between four: of the planes d.lower and d.upper, the lines h.lower
// and h.upper.
void blend_lines(const float* x, int64_t height, int64_t size, const Tap& d, const Tap& h,
                 float* row) {
  const float* p00 = x + (d.lower * height + h.lower) * size;
  const float* p01 = x + (d.lower * height + h.upper) * size;
  const float* p10 = x + (d.upper * height + h.lower) * size;
  const float* p11 = x + (d.upper * height + h.upper) * size;
  const Vec along_d = splat(d.weight);
  const Vec along_h = splat(h.weight);
  for_each_vector(size, [&](int64_t i, auto lanes) {
    const Vec lower = lerp(load_lanes(p00 + i, lanes), load_lanes(p01 + i, lanes), along_h);
    const Vec upper = lerp(load_lanes(p10 + i, lanes), load_lanes(p11 + i, lanes), along_h);
    store_lanes(row + i, lerp(lower, upper, along_d), lanes);
  });
}

}  // namespace

void upsample_add(const sgmf::UpsampleAdd& op, int64_t begin, int64_t end, float* scratch) {
  const int64_t channels = op.channels;
  const int64_t entry = op.low[0] * op.low[1] * op.low[2] * channels;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t plane = r / op.high[1];
    blend_lines(op.x + plane / op.high[0] * entry, op.low[1], op.low[2] * channels,
                op.taps[0][plane % op.high[0]], op.taps[1][r % op.high[1]], scratch);
    for (int64_t w = 0; w < op.high[2]; ++w) {
      const Tap& tap = op.taps[2][w];
      const float* lower = scratch + tap.lower * channels;
      const float* upper = scratch + tap.upper * channels;
      const float* added = op.added + (r * op.high[2] + w) * channels;
      float* y = op.y + (r * op.high[2] + w) * channels;
      const Vec weight = splat(tap.weight);
      for_each_vector(channels, [&](int64_t c, auto lanes) {
        const Vec low = lerp(load_lanes(lower + c, lanes), load_lanes(upper + c, lanes), weight);
        store_lanes(y + c, load_lanes(added + c, lanes) + low, lanes);
      });
    }
  }
}

void upsample(const sgmf::Upsample& op, int64_t begin, int64_t end, float* scratch) {
  const int64_t low_width = op.low[2];
  const int64_t entry = op.low[0] * op.low[1] * low_width;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t plane = r / op.high[1];
    blend_lines(op.x + plane / op.high[0] * entry, op.low[1], low_width,
                op.taps[0][plane % op.high[0]], op.taps[1][r % op.high[1]], scratch);
    scratch[low_width] = scratch[low_width - 1];  // after the last comes its like
    float* y = op.y + (r - begin) * op.high[2];
    for_each_vector(op.high[2], [&](int64_t w, auto lanes) {
      const float* lower = scratch + op.first[w / lane_count];
      const Indices at = load_indices(op.lanes + w);
      const Vec weights = load(op.weights + w);
      store_lanes(y + w, lerp(permute(load(lower), at), permute(load(lower + 1), at), weights),
                  lanes);
    });
  }
}

}  // namespace SGMF_ISA
