// The strided convolution of a patch embedding, compiled once for each instruction set.
//
// Neighbouring outputs of a row lie across the lanes. What they read for one weight is `stride`
// floats apart, so the rows that a block of outputs sees are first copied, apart by their position
// modulo the stride: within such a phase the lanes read what follows each other. Two vectors of
// outputs then stay in registers for as many channels as there is room for, while all weights pass.
#include "kernels/isa/patch_embed_kernel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/isa/phases.h"

namespace SGMF_ISA {
namespace {

using sgmf::patch_channel_group;
using sgmf::PatchEmbed;
using sgmf::PatchRows;

// Sums of two vectors each, their inputs and a weight must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int block_channels = 12;
#else
constexpr int block_channels = 6;
#endif
static_assert(patch_channel_group % block_channels == 0, "a group is whole blocks");

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The copied rows, (input_channels, kernel depth, rows, stride, phase): one of `rows` for each
// that the outputs reach, those beyond the volume zero.
struct Window {
  Window(const PatchEmbed& op, int64_t output_rows)
      : rows((output_rows - 1) * op.stride[1] + op.kernel[1]),
        vectors(divide_up(op.output[2], lane_count)),
        phase(vectors * lane_count + (op.kernel[2] - 1) / op.stride[2]),
        row(phase * op.stride[2]),
        plane(rows * row),
        channel(plane * op.kernel[0]),
        pad_whole(op.pad[2] / op.stride[2]),
        pad_phase(op.pad[2] % op.stride[2]) {}

  int64_t rows;
  int64_t vectors;  // of outputs in a row
  int64_t phase;    // floats, as of the following
  int64_t row;
  int64_t plane;
  int64_t channel;
  int64_t pad_whole;  // strides in the padding before a row, and what is left
  int64_t pad_phase;
};

// Where the phase begins to which input `i` of a row belongs, one of the first `stride`.
float* phase_of(const PatchEmbed& op, const Window& window, int64_t i, float* row) {
  const int64_t at = window.pad_phase + i;
  const bool wraps = at >= op.stride[2];
  return row + window.pad_whole +
         (wraps ? (at - op.stride[2]) * window.phase + 1 : at * window.phase);
}

// As many whole vectors as `count` inputs make; returns how many floats of each phase.
template <int stride>
int64_t split_vectors(const PatchEmbed& op, const Window& window, const float* x, int64_t count,
                      float* row) {
  float* phases[stride];
  for (int i = 0; i < stride; ++i) phases[i] = phase_of(op, window, i, row);
  int64_t at = 0;
  for (; (at + lane_count) * stride <= count; at += lane_count) {
    SGMF_ISA::split_vectors<stride>(x, phases, at);
  }
  return at;
}

void split_row(const PatchEmbed& op, const Window& window, const float* x, float* row) {
  const int64_t stride = op.stride[2];
  std::fill(row, row + window.row, 0.0f);
  // Inputs behind the last output's patch have no place in the window.
  const int64_t reached = (op.output[2] - 1) * stride + op.kernel[2] - op.pad[2];
  const int64_t count = std::min(op.input[2], reached);
  int64_t done = 0;
  if (stride == 1) done = split_vectors<1>(op, window, x, count, row);
  if (stride == 2) done = split_vectors<2>(op, window, x, count, row);
  if (stride == 4) done = split_vectors<4>(op, window, x, count, row);
  for (int64_t first = 0; first < std::min(stride, count); ++first) {
    float* phase = phase_of(op, window, first, row);
    for (int64_t at = done; at * stride + first < count; ++at) phase[at] = x[at * stride + first];
  }
}

// Kernel planes that meet the volume.
struct Planes {
  int64_t begin;
  int64_t end;
};

Planes planes_inside(const PatchEmbed& op, int64_t depth) {
  const int64_t first = depth * op.stride[0] - op.pad[0];
  return {std::max<int64_t>(0, -first), std::min(op.kernel[0], op.input[0] - first)};
}

void fill_window(const PatchEmbed& op, const PatchRows& rows, const Window& window, Planes planes,
                 float* out) {
  const int64_t first_plane = rows.depth * op.stride[0] - op.pad[0];
  const int64_t first_row = rows.height_begin * op.stride[1] - op.pad[1];
  for (int64_t c = 0; c < op.input_channels; ++c) {
    for (int64_t k = planes.begin; k < planes.end; ++k) {
      const int64_t plane = (rows.batch * op.input_channels + c) * op.input[0] + first_plane + k;
      for (int64_t r = 0; r < window.rows; ++r) {
        float* row = out + c * window.channel + k * window.plane + r * window.row;
        const int64_t h = first_row + r;
        if (h < 0 || h >= op.input[1]) {
          std::fill(row, row + window.row, 0.0f);
        } else {
          split_row(op, window, op.x + (plane * op.input[1] + h) * op.input[2], row);
        }
      }
    }
  }
}

// One vector of outputs: its first input in the window, where it goes and how much of it.
struct Target {
  const float* x;
  float* y;
  int lanes;
};

// `size` channels of `vectors` vectors of outputs.
template <int size, int vectors>
void convolve(const PatchEmbed& op, const Window& window, Planes planes, const Target* targets,
              int64_t channel) {
  Vec sum[size][vectors];
  for (int i = 0; i < size; ++i) {
    for (int v = 0; v < vectors; ++v) sum[i][v] = splat(op.bias[channel + i]);
  }
  const int64_t taps = op.kernel[0] * op.kernel[1] * op.kernel[2];
  const float* group =
      op.weights + channel / patch_channel_group * patch_channel_group * op.input_channels * taps;
  for (int64_t c = 0; c < op.input_channels; ++c) {
    for (int64_t k = planes.begin; k < planes.end; ++k) {
      for (int64_t r = 0; r < op.kernel[1]; ++r) {
        const float* w = group + channel % patch_channel_group +
                         (c * taps + (k * op.kernel[1] + r) * op.kernel[2]) * patch_channel_group;
        const int64_t row = c * window.channel + k * window.plane + r * window.row;
        int64_t phase = 0, at = 0;
        for (int64_t t = 0; t < op.kernel[2]; ++t, w += patch_channel_group) {
          Vec x[vectors];
          for (int v = 0; v < vectors; ++v) x[v] = load(targets[v].x + row + phase + at);
#pragma GCC unroll 12
          for (int i = 0; i < size; ++i) {
            const Vec weight = splat(w[i]);
            for (int v = 0; v < vectors; ++v) sum[i][v] = fma(x[v], weight, sum[i][v]);
          }
          phase += window.phase;
          if (phase == window.row) phase = 0, ++at;
        }
      }
    }
  }
  for (int v = 0; v < vectors; ++v) {
    float turned[size][lane_count];
    for (int i = 0; i < size; ++i) store(turned[i], sum[i][v]);
    for (int lane = 0; lane < targets[v].lanes; ++lane) {
      float* y = targets[v].y + lane * op.channels + channel;
      for (int i = 0; i < size; ++i) y[i] = turned[i][lane];
    }
  }
}

using Convolve = void (*)(const PatchEmbed&, const Window&, Planes, const Target*, int64_t);

template <int vectors, int... i>
constexpr std::array<Convolve, block_channels> by_size(std::integer_sequence<int, i...>) {
  return {convolve<i + 1, vectors>...};
}

// For one channel, two and so on.
template <int vectors>
constexpr std::array<Convolve, block_channels> convolve_channels =
    by_size<vectors>(std::make_integer_sequence<int, block_channels>());

}  // namespace

int64_t patch_embed_scratch(const PatchEmbed& op, int64_t rows) {
  return Window(op, rows).channel * op.input_channels;
}

void patch_embed(const PatchEmbed& op, const PatchRows& rows, float* scratch) {
  const Window window(op, rows.height_end - rows.height_begin);
  const Planes planes = planes_inside(op, rows.depth);
  fill_window(op, rows, window, planes, scratch);
  const int64_t count = (rows.height_end - rows.height_begin) * window.vectors;
  const auto target = [&](int64_t i) {
    const int64_t h = i / window.vectors, w = i % window.vectors * lane_count;
    const int64_t row =
        (rows.batch * op.output[0] + rows.depth) * op.output[1] + rows.height_begin + h;
    return Target{scratch + h * op.stride[1] * window.row + w,
                  op.y + (row * op.output[2] + w) * op.channels,
                  static_cast<int>(std::min<int64_t>(lane_count, op.output[2] - w))};
  };
  for (int64_t i = 0; i < count; i += 2) {
    const Target targets[] = {target(i), target(std::min(i + 1, count - 1))};
    const auto& convolve = i + 1 < count ? convolve_channels<2> : convolve_channels<1>;
    for (int64_t channel = 0; channel < op.channels; channel += block_channels) {
      const int64_t size = std::min<int64_t>(block_channels, op.channels - channel);
      convolve[size - 1](op, window, planes, targets, channel);
    }
  }
}

}  // namespace SGMF_ISA
