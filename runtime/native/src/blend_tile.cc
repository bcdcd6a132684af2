#include "sgmf/blend_tile.h"

#include "parallel.h"
#include "vectorised.h"

namespace {

SGMF_VECTORISED void blend_row(const float* logits, const float* weights, int64_t width, float* sum) {
  for (int64_t x = 0; x < width; ++x) sum[x] += logits[x] * weights[x];
}

void blend_channel(const sgmf_blend_tile_args& args, int64_t channel) {
  for (int64_t z = 0; z < args.extent[0]; ++z) {
    for (int64_t y = 0; y < args.extent[1]; ++y) {
      blend_row(args.logits + channel * args.logits_stride[0] + z * args.logits_stride[1] + y * args.logits_stride[2],
                args.weights + z * args.weights_stride[0] + y * args.weights_stride[1], args.extent[2],
                args.accumulator + channel * args.accumulator_stride[0] + z * args.accumulator_stride[1] +
                    y * args.accumulator_stride[2]);
    }
  }
}

}  // namespace

extern "C" const char* sgmf_blend_tile(const sgmf_blend_tile_args* args, int32_t threads) {
  if (!args || !args->logits || !args->weights || !args->accumulator) return "a pointer is NULL";
  try {
    sgmf::own_threads(threads > 0 ? threads : sgmf::available_threads())(
        static_cast<std::size_t>(args->channels), [&](std::size_t channel) { blend_channel(*args, channel); });
  } catch (...) {
    return "out of memory or threads";
  }
  return nullptr;
}
