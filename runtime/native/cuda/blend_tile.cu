// The C functions for lines of label_stream_cuda.h. A block takes one row of voxels in every
// channel, its threads neighbouring columns.
#include "cuda/label_stream_cuda.h"
#include "cuda/launch.h"

namespace sgmf::cuda {

namespace {

constexpr int row_threads = 128;
constexpr const char* null_pointer = "a pointer is NULL";
constexpr const char* too_many = "there are more lines than a GPU can count blocks";

}  // namespace

struct Blend {
  sgmf_blend_tile_args args;
  int32_t* not_finite;
};

struct Clear {
  float* const* lines;
  int64_t size;
};

struct Divide {
  sgmf_divide_lines_args args;
};

__global__ void __launch_bounds__(row_threads) clear_line(Clear clear) {
  float* line = clear.lines[blockIdx.x];
  for (int64_t x = threadIdx.x; x < clear.size; x += blockDim.x) line[x] = 0.0f;
}

__global__ void __launch_bounds__(row_threads, 8) blend_row(Blend blend) {
  const sgmf_blend_tile_args& args = blend.args;
  const int64_t z = blockIdx.x / args.extent[1], y = blockIdx.x % args.extent[1];
  const float* logits = args.logits + z * args.logits_stride[1] + y * args.logits_stride[2];
  const float* weights = args.weights + z * args.weights_stride[0] + y * args.weights_stride[1];
  float* line = args.lines[blockIdx.x];
  bool finite = true;
  for (int64_t x = threadIdx.x; x < args.extent[2]; x += blockDim.x) {
    const float weight = weights[x];
    for (int64_t k = 0; k < args.channels; ++k) {
      const float logit = logits[k * args.logits_stride[0] + x];
      float* sum = line + k * args.channel_stride + x;
      *sum = __fadd_rn(*sum, __fmul_rn(logit, weight));
      finite = finite && isfinite(logit);
    }
  }
  if (!finite) *blend.not_finite = 1;
}

__global__ void __launch_bounds__(row_threads) divide_line(Divide divide) {
  const sgmf_divide_lines_args& args = divide.args;
  const float* divisors = args.divisors + blockIdx.x * args.width;
  float* line = args.lines[blockIdx.x];
  for (int64_t x = threadIdx.x; x < args.width; x += blockDim.x) {
    const float divisor = divisors[x];
    for (int64_t k = 0; k < args.channels; ++k) {
      float* sum = line + k * args.channel_stride + x;
      *sum = __fdiv_rn(*sum, divisor);
    }
  }
}

}  // namespace sgmf::cuda

extern "C" {

const char* sgmf_clear_lines_cuda(float* const* lines, int64_t count, int64_t size, void* stream) {
  using namespace sgmf::cuda;
  if (count < 1 || size < 1) return nullptr;
  if (!lines) return null_pointer;
  return launch(clear_line, count, row_threads, 0, stream, Clear{lines, size}, too_many);
}

const char* sgmf_blend_tile_cuda(const sgmf_blend_tile_args* args, int32_t* not_finite,
                                 void* stream) {
  using namespace sgmf::cuda;
  if (!args || !args->logits || !args->weights || !args->lines || !not_finite) return null_pointer;
  const int64_t rows = args->extent[0] * args->extent[1];
  if (rows < 1 || args->extent[2] < 1 || args->channels < 1) return nullptr;
  return launch(blend_row, rows, row_threads, 0, stream, Blend{*args, not_finite}, too_many);
}

const char* sgmf_divide_lines_cuda(const sgmf_divide_lines_args* args, void* stream) {
  using namespace sgmf::cuda;
  if (!args || !args->divisors || !args->lines) return null_pointer;
  if (args->count < 1 || args->width < 1 || args->channels < 1) return nullptr;
  return launch(divide_line, args->count, row_threads, 0, stream, Divide{*args}, too_many);
}

}  // extern "C"
