#include "kernels/token_ops/token_op.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "kernels/interface/token_ops.h"

namespace sgmf {

extern const TokenOp conv3d_op;
extern const TokenOp concat_conv3d_op;
extern const TokenOp conv_transpose3d_op;
extern const TokenOp depthwise_conv3d_op;
extern const TokenOp instance_norm_gelu_op;
extern const TokenOp instance_norm_relu_op;
extern const TokenOp instance_norm_tokens_op;
extern const TokenOp instance_norm_op;
extern const TokenOp instance_norm_add_op;
extern const TokenOp upsample_add_op;
extern const TokenOp upsample_op;
extern const TokenOp upsample_nearest_op;
extern const TokenOp causal_conv1d_silu_op;
extern const TokenOp patch_embed_op;
extern const TokenOp rotary_norm_op;
extern const TokenOp norm_linear_op;
extern const TokenOp linear_add_op;
extern const TokenOp folded_norm_op;
extern const TokenOp relu_linear_op;
extern const TokenOp gelu_linear_add_op;
extern const TokenOp linear_upsample_add_op;

const std::vector<const TokenOp*>& token_ops() {
  static const std::vector<const TokenOp*> ops = {&conv3d_op,
                                                  &concat_conv3d_op,
                                                  &conv_transpose3d_op,
                                                  &depthwise_conv3d_op,
                                                  &instance_norm_gelu_op,
                                                  &instance_norm_relu_op,
                                                  &instance_norm_op,
                                                  &instance_norm_add_op,
                                                  &instance_norm_tokens_op,
                                                  &upsample_add_op,
                                                  &upsample_op,
                                                  &upsample_nearest_op,
                                                  &causal_conv1d_silu_op,
                                                  &patch_embed_op,
                                                  &rotary_norm_op,
                                                  &norm_linear_op,
                                                  &linear_add_op,
                                                  &folded_norm_op,
                                                  &relu_linear_op,
                                                  &gelu_linear_add_op,
                                                  &linear_upsample_add_op};
  return ops;
}

void refuse_shapes(const char* op, const char* expected, const TokenOpCall& call) {
  std::string found;
  for (const Tensor& input : call.inputs) {
    found += (found.empty() ? "" : ", ") + to_string(input.shape);
  }
  throw std::invalid_argument(std::string(op) + ": expected " + expected + "; found " + found);
}

void check_slope(const TokenOpCall& call, const char* op) {
  const float slope = call.attributes.alpha;
  if (slope >= 0.0f && slope <= 1.0f) return;
  throw std::invalid_argument(std::string(op) + ": alpha must lie between 0 and 1; found " +
                              std::to_string(slope));
}

void for_each_span(const ParallelFor& parallel, int64_t rows, int64_t row_size,
                   const std::function<void(int64_t, int64_t)>& run) {
  constexpr int64_t smallest_task = 1 << 16;  // floats
  constexpr int64_t most_tasks = 256;
  const int64_t span =
      std::max((rows + most_tasks - 1) / most_tasks, (smallest_task + row_size - 1) / row_size);
  const int64_t tasks = (rows + span - 1) / span;
  parallel(static_cast<std::size_t>(tasks), [&](std::size_t i) {
    const int64_t begin = static_cast<int64_t>(i) * span;
    run(begin, std::min(rows, begin + span));
  });
}

std::vector<float> taps_first(const float* weight, int64_t channels, int64_t taps) {
  std::vector<float> turned(channels * taps);
  for (int64_t k = 0; k < taps; ++k) {
    for (int64_t c = 0; c < channels; ++c) turned[k * channels + c] = weight[c * taps + k];
  }
  return turned;
}

namespace {

const TokenOp& find_op(const sgmf_token_op_args& args) {
  for (const TokenOp* op : token_ops()) {
    if (!args.op || std::strcmp(op->name, args.op)) continue;
    if (args.input_count == static_cast<int32_t>(op->input_count)) return *op;
    throw std::invalid_argument(std::string(op->name) + ": expected " +
                                std::to_string(op->input_count) + " inputs; found " +
                                std::to_string(args.input_count));
  }
  throw std::invalid_argument(std::string("no op has the name ") + (args.op ? args.op : "NULL"));
}

Tensor read_tensor(const sgmf_tensor& tensor) {
  if (tensor.rank < 0 || tensor.rank > SGMF_TOKEN_OP_MAX_RANK) {
    throw std::invalid_argument("a tensor's rank lies outside 0 to 5");
  }
  Tensor read{true, tensor.data, {tensor.extent, tensor.extent + tensor.rank}};
  for (int64_t extent : read.shape) {
    if (extent < 0) throw std::invalid_argument("an extent is negative");
  }
  if (element_count(read.shape) && !read.data) {
    throw std::invalid_argument("a tensor's data is NULL");
  }
  return read;
}

TokenOpCall read_call(const sgmf_token_op_args& args) {
  TokenOpCall call;
  for (int32_t i = 0; i < args.input_count; ++i) call.inputs.push_back(read_tensor(args.inputs[i]));
  call.attributes.group = args.group;
  call.attributes.epsilon = args.epsilon;
  call.attributes.alpha = args.alpha;
  std::copy(std::begin(args.scales), std::end(args.scales), call.attributes.scales.begin());
  std::copy(std::begin(args.strides), std::end(args.strides), call.attributes.strides.begin());
  std::copy(std::begin(args.pads), std::end(args.pads), call.attributes.pads.begin());
  return call;
}

void run(const sgmf_token_op_args& args, int32_t threads, const char* isa) {
  const TokenOp& op = find_op(args);
  const TokenOpCall call = read_call(args);
  const Shape shape = op.check(call);
  const Tensor y = read_tensor(args.y);
  if (y.shape != shape) {
    throw std::invalid_argument(std::string(op.name) + ": the result has shape " +
                                to_string(shape) + "; found memory for " + to_string(y.shape));
  }
  const int64_t size = element_count(shape);
  const CpuKernels* kernels = find_kernels(isa);
  if (!kernels) throw std::invalid_argument(isa_missing);
  if (!size) return;
  const int count = worthwhile_threads(threads, size);
  op.run(call, args.y.data, {*kernels, count, own_threads(count)});
}

}  // namespace
}  // namespace sgmf

extern "C" const char* sgmf_token_op(const sgmf_token_op_args* args, int32_t threads,
                                     const char* isa) {
  static thread_local std::string message;
  if (!args) return "args may not be NULL";
  try {
    sgmf::run(*args, threads, isa);
    return nullptr;
  } catch (const std::invalid_argument& error) {
    message = error.what();
    return message.c_str();
  } catch (...) {
    return "out of memory or threads";
  }
}
