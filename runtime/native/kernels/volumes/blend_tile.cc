#include "kernels/interface/blend_tile.h"

#include <algorithm>
#include <atomic>

#include "kernels/finite.h"
#include "kernels/parallel.h"
#include "kernels/vectorised.h"

namespace {

// Returns the largest magnitude of the logits.
SGMF_VECTORISED uint32_t blend_row(const float* logits, const float* weights, int64_t width,
                                   float* sum) {
  uint32_t largest = 0;
  for (int64_t x = 0; x < width; ++x) {
    sum[x] += logits[x] * weights[x];
    largest = std::max(largest, sgmf::magnitude_bits(logits[x]));
  }
  return largest;
}

SGMF_VECTORISED void divide_row(const float* divisors, int64_t width, float* sum) {
  for (int64_t x = 0; x < width; ++x) sum[x] /= divisors[x];
}

// Returns whether all logits are finite.
bool blend_plane(const sgmf_blend_tile_args& args, int64_t z) {
  uint32_t largest = 0;
  for (int64_t channel = 0; channel < args.channels; ++channel) {
    for (int64_t y = 0; y < args.extent[1]; ++y) {
      const float* logits = args.logits + channel * args.logits_stride[0] +
                            z * args.logits_stride[1] + y * args.logits_stride[2];
      const float* weights = args.weights + z * args.weights_stride[0] + y * args.weights_stride[1];
      float* sum = args.lines[z * args.extent[1] + y] + channel * args.channel_stride;
      largest = std::max(largest, blend_row(logits, weights, args.extent[2], sum));
    }
  }
  return sgmf::is_finite_magnitude(largest);
}

void divide_line(const sgmf_divide_lines_args& args, int64_t line) {
  for (int64_t channel = 0; channel < args.channels; ++channel) {
    divide_row(args.divisors + line * args.width, args.width,
               args.lines[line] + channel * args.channel_stride);
  }
}

template <typename F>
const char* for_each(int64_t count, int64_t size, int32_t threads, F f) {
  try {
    sgmf::own_threads(sgmf::worthwhile_threads(threads, count * size))(
        static_cast<std::size_t>(count), [&](std::size_t i) { f(static_cast<int64_t>(i)); });
  } catch (...) {
    return sgmf::out_of_memory;
  }
  return nullptr;
}

}  // namespace

extern "C" const char* sgmf_blend_tile(const sgmf_blend_tile_args* args, int32_t threads) {
  if (!args || !args->logits || !args->weights || !args->lines) return "a pointer is NULL";
  const int64_t size = args->channels * args->extent[1] * args->extent[2];
  std::atomic<bool> finite{true};
  const char* complaint = for_each(args->extent[0], size, threads, [&](int64_t z) {
    if (!blend_plane(*args, z)) finite = false;
  });
  return complaint || finite ? complaint : sgmf::not_finite;
}

extern "C" const char* sgmf_divide_lines(const sgmf_divide_lines_args* args, int32_t threads) {
  if (!args || !args->divisors || !args->lines) return "a pointer is NULL";
  return for_each(args->count, args->channels * args->width, threads,
                  [&](int64_t line) { divide_line(*args, line); });
}
