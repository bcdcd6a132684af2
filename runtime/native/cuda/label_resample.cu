// Labels of label_stream_cuda.h. A thread takes target voxels of one row.
#include "cuda/label_stream_cuda.h"
#include "cuda/launch.h"

namespace sgmf::cuda {

using Args = sgmf_label_resample_args;

namespace {

constexpr int row_threads = 128;

__device__ double between(double low, double high, double weight) {
  return __dadd_rn(__dmul_rn(__dsub_rn(1.0, weight), low), __dmul_rn(weight, high));
}

// The neighbours of a target voxel in one channel: pairs along depth, those at the lower height
// and the lower column first.
struct Corners {
  float value[8];
};

class Voxel {
 public:
  __device__ Voxel(const Args& args, int64_t z, int64_t y, int64_t x)
      : weight_{args.taps[0].weight[z], args.taps[1].weight[y], args.taps[2].weight[x]} {
    const int64_t columns[] = {args.taps[2].low[x], args.taps[2].high[x]};
    const int64_t rows[] = {args.taps[1].low[y], args.taps[1].high[y]};
    const int64_t planes[] = {args.taps[0].low[z], args.taps[0].high[z]};
    for (int i = 0; i < 8; ++i) {
      corner_[i] = args.lines[planes[i % 2] * args.height + rows[i / 2 % 2]] + columns[i / 4];
    }
  }

  __device__ Corners corners(int64_t offset) const {
    Corners found;
    for (int i = 0; i < 8; ++i) found.value[i] = corner_[i][offset];
    return found;
  }

  // Along depth, then height, then width, as on the CPU.
  __device__ float interpolate(const Corners& corners) const {
    double row[4];
    for (int i = 0; i < 4; ++i) {
      row[i] = between(corners.value[2 * i], corners.value[2 * i + 1], weight_[0]);
    }
    const double left = between(row[0], row[1], weight_[1]);
    const double right = between(row[2], row[3], weight_[1]);
    return static_cast<float>(between(left, right, weight_[2]));
  }

 private:
  const float* corner_[8];
  double weight_[3];
};

__device__ float least(const Corners& corners) {
  float found = corners.value[0];
  for (int i = 1; i < 8; ++i) found = fminf(found, corners.value[i]);
  return found;
}

__device__ float most(const Corners& corners) {
  float found = corners.value[0];
  for (int i = 1; i < 8; ++i) found = fmaxf(found, corners.value[i]);
  return found;
}

// The first of the largest. A channel that nowhere comes up to what another reaches everywhere
// cannot win: interpolation, which takes long in double, stays between the corners.
__device__ uint16_t largest(const Args& args, const Voxel& voxel) {
  float floor = -INFINITY;
  for (int64_t k = 0; k < args.channels; ++k) {
    floor = fmaxf(floor, least(voxel.corners(k * args.channel_stride)));
  }
  float best = -INFINITY;
  int64_t label = 0;
  for (int64_t k = 0; k < args.channels; ++k) {
    const Corners corners = voxel.corners(k * args.channel_stride);
    if (most(corners) < floor) continue;
    const float value = voxel.interpolate(corners);
    label = value > best ? k : label;
    best = value > best ? value : best;
  }
  return static_cast<uint16_t>(label);
}

__device__ uint16_t painted(const Args& args, const Voxel& voxel) {
  uint16_t label = 0;
  for (int64_t k = 0; k < args.channels; ++k) {
    const float value = voxel.interpolate(voxel.corners(k * args.channel_stride));
    if (value > 0.0f) label = args.regions[k];
  }
  return label;
}

}  // namespace

struct LabelResample {
  Args args;
};

__global__ void __launch_bounds__(row_threads, 5) label_row(LabelResample resample) {
  const Args& args = resample.args;
  const int64_t z = blockIdx.x / args.taps[1].count, y = blockIdx.x % args.taps[1].count;
  const int64_t width = args.taps[2].count;
  for (int64_t x = threadIdx.x; x < width; x += blockDim.x) {
    const Voxel voxel(args, z, y, x);
    args.labels[blockIdx.x * width + x] =
        args.regions ? painted(args, voxel) : largest(args, voxel);
  }
}

namespace {

const char* check(const Args& args) {
  if (args.channels < 1 || args.channels > 65535) {
    return "the number of channels must lie between 1 and 65,535";
  }
  if (args.depth < 1 || args.height < 1 || args.width < 1) {
    return "the logits' extent must be positive";
  }
  for (const sgmf_axis_taps& taps : args.taps) {
    if (taps.count < 0) return "a number of taps is negative";
    if (taps.count && !(taps.low && taps.high && taps.weight)) return "taps may not be NULL";
  }
  return args.lines && args.labels ? nullptr : "lines and labels may not be NULL";
}

}  // namespace
}  // namespace sgmf::cuda

extern "C" const char* sgmf_label_resample_cuda(const sgmf_label_resample_args* args,
                                                void* stream) {
  using namespace sgmf::cuda;
  if (!args) return "args may not be NULL";
  if (const char* error = check(*args)) return error;
  const int64_t rows = args->taps[0].count * args->taps[1].count;
  if (!rows || !args->taps[2].count) return nullptr;
  return launch(label_row, rows, row_threads, 0, stream, LabelResample{*args},
                "there are more rows than a GPU can count blocks");
}
