#include <algorithm>
#include <memory>
#include <stdexcept>

#include "kernels/token_ops/token_op.h"

namespace sgmf {
namespace {

constexpr const char* name = "PatchEmbed";

void check_shapes(const TokenOpCall& call) {
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const bool ranks = x.size() == 5 && weight.size() == 5;
  if (!ranks || weight[1] != x[1] || *std::min_element(weight.begin() + 2, weight.end()) < 1 ||
      call.shape(2) != Shape{weight[0]}) {
    refuse_shapes(name, "x (B, Cin, D, H, W), weight (Cout, Cin, kd, kh, kw) and bias (Cout)",
                  call);
  }
}

// More would be a mistake, and take memory without end.
constexpr int64_t longest = 1024;

void check_attributes(const Attributes& given) {
  for (int64_t stride : given.strides) {
    if (stride >= 1 && stride <= longest) continue;
    throw std::invalid_argument(std::string(name) +
                                ": strides must be three numbers from 1 to 1024; found " +
                                to_string({given.strides.begin(), given.strides.end()}));
  }
  for (int64_t pad : given.pads) {
    if (pad >= 0 && pad <= longest) continue;
    throw std::invalid_argument(std::string(name) +
                                ": pads must be six numbers from 0 to 1024; found " +
                                to_string({given.pads.begin(), given.pads.end()}));
  }
}

Shape check(const TokenOpCall& call) {
  check_shapes(call);
  check_attributes(call.attributes);
  const Shape& x = call.shape(0);
  const Shape& weight = call.shape(1);
  const Attributes& given = call.attributes;
  Shape y = {x[0]};
  for (int i = 0; i < 3; ++i) {
    const int64_t room = x[2 + i] + given.pads[i] + given.pads[3 + i] - weight[2 + i];
    if (room < 0) refuse_shapes(name, "a padded volume that holds the kernel", call);
    y.push_back(room / given.strides[i] + 1);
  }
  y.push_back(weight[0]);
  return y;
}

PatchEmbed describe(const TokenOpCall& call, float* y) {
  const Shape& weight = call.shape(1);
  const Shape output = check(call);
  PatchEmbed op{};
  op.input_channels = weight[1];
  op.channels = weight[0];
  for (int i = 0; i < 3; ++i) {
    op.input[i] = call.shape(0)[2 + i];
    op.kernel[i] = weight[2 + i];
    op.stride[i] = call.attributes.strides[i];
    op.pad[i] = call.attributes.pads[i];
    op.output[i] = output[1 + i];
  }
  op.x = call.data(0);
  op.bias = call.data(2);
  op.y = y;
  return op;
}

// Whether minimal filtering takes clearly fewer products, in vectors that rows of tiles fill, for
// enough outputs to make up for its transforms.
bool is_filtered(const PatchEmbed& op, const Workers& workers) {
  constexpr int64_t least_channels = 32;
  int64_t products = 1, direct = 1;
  for (int i = 0; i < 3; ++i) {
    const int64_t phases = std::min(op.kernel[i], op.stride[i]);
    if (op.kernel[i] > 2 * op.stride[i]) return false;
    products *= phases + op.kernel[i];
    direct *= 2 * op.kernel[i];
  }
  const bool fills_vectors = divide_up(op.output[2], 2) % workers.kernels.lanes == 0;
  return op.channels >= least_channels && fills_vectors && 10 * products < 7 * direct;
}

std::vector<float> pack_groups(const PatchEmbed& op, const float* weight) {
  constexpr int64_t group = patch_channel_group;
  const int64_t taps = op.input_channels * op.kernel[0] * op.kernel[1] * op.kernel[2];
  std::vector<float> packed(divide_up(op.channels, group) * group * taps);
  for (int64_t c = 0; c < op.channels; ++c) {
    float* to = packed.data() + c / group * group * taps + c % group;
    for (int64_t k = 0; k < taps; ++k) to[k * group] = weight[c * taps + k];
  }
  return packed;
}

std::vector<float> pack(const TokenOpCall& call, const Workers& workers) {
  const PatchEmbed op = describe(call, nullptr);
  if (!is_filtered(op, workers)) return pack_groups(op, call.data(1));
  std::vector<float> packed(workers.kernels.patch_filter->packed_size(op));
  workers.kernels.patch_filter->pack(op, call.data(1), packed.data());
  return packed;
}

// Rows of outputs such that what they read stays in a core's second cache, and some blocks for
// each thread.
std::vector<PatchRows> make_blocks(const PatchEmbed& op, int64_t batch, const Workers& workers) {
  constexpr int64_t cached_floats = 1024 * 1024 / 4;
  const int64_t least_blocks = 4 * workers.threads;
  const int64_t height = op.output[1];
  int64_t rows = height;
  while (rows > 1 && (workers.kernels.patch_embed_scratch(op, rows) > cached_floats ||
                      batch * op.output[0] * divide_up(height, rows) < least_blocks)) {
    rows = divide_up(rows, 2);
  }
  std::vector<PatchRows> blocks;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t d = 0; d < op.output[0]; ++d) {
      for (int64_t h = 0; h < height; h += rows) {
        blocks.push_back({b, d, h, std::min(h + rows, height)});
      }
    }
  }
  return blocks;
}

void run_rows(const PatchEmbed& op, int64_t batch, const Workers& workers) {
  const CpuKernels& kernels = workers.kernels;
  const std::vector<PatchRows> blocks = make_blocks(op, batch, workers);
  workers.parallel(blocks.size(), [&](std::size_t i) {
    const int64_t rows = blocks[i].height_end - blocks[i].height_begin;
    // The kernel fills it, so that nothing needs to be cleared before.
    const std::unique_ptr<float[]> scratch(new float[kernels.patch_embed_scratch(op, rows)]);
    kernels.patch_embed(op, blocks[i], scratch.get());
  });
}

// Tiles of one plane of them are cut only if there are too few planes for the threads.
void run_tiles(const PatchEmbed& op, int64_t batch, const Workers& workers) {
  const PatchFilterKernel& kernel = *workers.kernels.patch_filter;
  const int64_t planes = divide_up(op.output[0], 2);
  const int64_t tiles = divide_up(op.output[1], 2) * divide_up(op.output[2], 2);
  const int64_t least_parts = divide_up(4 * workers.threads, batch * planes);
  const int64_t part = divide_up(divide_up(tiles, kernel.block), least_parts) * kernel.block;
  const int64_t parts = divide_up(tiles, part);
  workers.parallel(static_cast<std::size_t>(batch * planes * parts), [&](std::size_t i) {
    const int64_t plane = static_cast<int64_t>(i) / parts;
    const int64_t begin = static_cast<int64_t>(i) % parts * part;
    const std::unique_ptr<float[]> scratch(new float[kernel.scratch(op)]);
    kernel.run(op, {plane / planes, plane % planes, begin, std::min(begin + part, tiles)},
               scratch.get());
  });
}

void run(const TokenOpCall& call, float* y, const Workers& workers) {
  PatchEmbed op = describe(call, y);
  const std::vector<float> own = call.packed ? std::vector<float>() : pack(call, workers);
  op.weights = call.packed ? call.packed : own.data();
  const int64_t batch = call.shape(0)[0];
  is_filtered(op, workers) ? run_tiles(op, batch, workers) : run_rows(op, batch, workers);
}

}  // namespace

extern const TokenOp patch_embed_op = {name, 3, -1, false, check, run, 3, pack};

}  // namespace sgmf
