#include "kernels/token_ops/linear.h"

#include <algorithm>

#include "kernels/token_ops/instance_norm.h"

namespace sgmf {
namespace {

constexpr const char* norm_linear_name = "NormLinear";
constexpr const char* linear_add_name = "LinearAdd";
constexpr const char* gelu_linear_add_name = "InstanceNormGeluLinearAdd";
constexpr const char* folded_norm_name = "FoldedNorm";
constexpr const char* relu_linear_name = "InstanceNormReluLinear";

// Tokens whose inputs stay in the first cache while all weights pass.
constexpr int64_t block = 48;

bool are_vectors_of_inputs(const TokenOpCall& call, std::size_t first) {
  const Shape vector = {call.shape(0).back()};
  return call.shape(first) == vector && call.shape(first + 1) == vector;
}

Shape check_norm_linear(const TokenOpCall& call) {
  const Shape y = product_shape(call);
  if (y.empty() || !are_vectors_of_inputs(call, 3)) {
    refuse_shapes(norm_linear_name, "x (..., C), weight (C, K), bias (K), scale (C) and shift (C)",
                  call);
  }
  return y;
}

Shape check_linear_add(const TokenOpCall& call) {
  const Shape y = product_shape(call);
  if (y.empty() || call.shape(3) != y) {
    refuse_shapes(linear_add_name, "x (..., C), weight (C, K), bias (K) and rest (..., K)", call);
  }
  return y;
}

Shape check_relu_linear(const TokenOpCall& call) {
  const Shape y = product_shape(call);
  if (y.size() != 5 || !are_vectors_of_inputs(call, 3)) {
    refuse_shapes(relu_linear_name,
                  "x (B, D, H, W, C), weight (C, K), bias (K), scale (C) and shift (C)", call);
  }
  return y;
}

Shape check_gelu_linear_add(const TokenOpCall& call) {
  const Shape y = product_shape(call);
  if (y.size() != 5 || !are_vectors_of_inputs(call, 3) || call.shape(5) != y) {
    refuse_shapes(gelu_linear_add_name,
                  "x (B, D, H, W, C), weight (C, K), bias (K), scale (C), shift (C) and rest "
                  "(B, D, H, W, K)",
                  call);
  }
  return y;
}

Shape check_folded_norm(const TokenOpCall& call) {
  Shape y = call.shape(0);
  if (product_shape(call).empty()) {
    refuse_shapes(folded_norm_name, "x (..., C), weight (C, K) and bias (K)", call);
  }
  ++y.back();
  return y;
}

// Calls f(first token, tokens, scratch) block by block; scratch has room for inputs or outputs.
template <typename F>
void for_each_block(const Linear& how, int64_t tokens, const Workers& workers, F f) {
  // Few products take about as long as it takes to move their numbers.
  const int64_t work = std::max(how.inputs + how.outputs, how.inputs * how.outputs / 16);
  for_each_span(workers.parallel, divide_up(tokens, block), block * work,
                [&](int64_t begin, int64_t end) {
                  std::vector<float> scratch(block * std::max(how.inputs, how.outputs));
                  for (int64_t t = begin * block; t < std::min(end * block, tokens); t += block) {
                    f(t, std::min(block, tokens - t), scratch.data());
                  }
                });
}

// Multiplies tokens block by block, as `prepare` makes them of those of x.
template <typename Prepare>
void multiply(const Linear& how, const float* x, int64_t tokens, const float* rest, float* y,
              const Workers& workers, Prepare prepare) {
  for_each_block(how, tokens, workers, [&](int64_t t, int64_t count, float* scratch) {
    const float* prepared = prepare(x + t * how.inputs, count, scratch);
    const int64_t at = t * how.outputs;
    workers.kernels.linear->multiply(how, prepared, count, rest ? rest + at : nullptr, y + at);
  });
}

void run_norm_linear(const TokenOpCall& call, float* y, const Workers& workers) {
  const CallWeights weights(call, workers);
  const LayerNorm norm{weights.how().inputs, call.attributes.epsilon, call.data(3), call.data(4)};
  multiply(weights.how(), call.data(0), element_count(call.shape(0)) / norm.channels, nullptr, y,
           workers, [&](const float* x, int64_t tokens, float* scratch) {
             workers.kernels.linear->normalise(norm, x, tokens, scratch);
             return scratch;
           });
}

void run_linear_add(const TokenOpCall& call, float* y, const Workers& workers) {
  const CallWeights weights(call, workers);
  multiply(weights.how(), call.data(0), element_count(call.shape(3)) / weights.how().outputs,
           call.data(3), y, workers, [](const float* x, int64_t, float*) { return x; });
}

void run_folded_norm(const TokenOpCall& call, float* y, const Workers& workers) {
  const CallWeights weights(call, workers);
  const Linear& how = weights.how();
  const FoldedNorm norm{how.inputs, how.outputs, call.attributes.epsilon};
  const LinearKernel& kernel = *workers.kernels.linear;
  for_each_block(how, element_count(call.shape(0)) / how.inputs, workers,
                 [&](int64_t t, int64_t count, float* product) {
                   const float* x = call.data(0) + t * how.inputs;
                   kernel.multiply(how, x, count, nullptr, product);
                   kernel.divide(norm, x, product, count, y + t * (how.inputs + 1));
                 });
}

void run_instance_norm(const TokenOpCall& call, float* y, const Workers& workers,
                       Activation activation) {
  const CallWeights weights(call, workers);
  const Linear& how = weights.how();
  const Shape& shape = call.shape(0);
  const int64_t tokens = shape[1] * shape[2] * shape[3];
  for (int64_t b = 0; b < shape[0]; ++b) {
    const float* x = call.data(0) + b * tokens * how.inputs;
    const float* rest = call.inputs.size() > 5 ? call.data(5) + b * tokens * how.outputs : nullptr;
    const NormFactors factors = find_factors(x, tokens, how.inputs, call.data(3), call.data(4),
                                             call.attributes.epsilon, workers);
    const Normalise norm = factors.with(activation, 1.0f);
    multiply(how, x, tokens, rest, y + b * tokens * how.outputs, workers,
             [&](const float* from, int64_t count, float* scratch) {
               workers.kernels.instance_norm->normalise(norm, from, count, how.inputs, scratch);
               return scratch;
             });
  }
}

void run_relu_linear(const TokenOpCall& call, float* y, const Workers& workers) {
  run_instance_norm(call, y, workers, Activation::relu);
}

void run_gelu_linear_add(const TokenOpCall& call, float* y, const Workers& workers) {
  run_instance_norm(call, y, workers, Activation::gelu);
}

}  // namespace

std::vector<float> pack_linear(const TokenOpCall& call, const Workers& workers) {
  const LinearKernel& kernel = *workers.kernels.linear;
  const Shape& weight = call.shape(1);
  std::vector<float> packed(kernel.packed_size(weight[0], weight[1]));
  kernel.pack(call.data(1), weight[0], weight[1], packed.data());
  return packed;
}

CallWeights::CallWeights(const TokenOpCall& call, const Workers& workers)
    : own_(call.packed ? std::vector<float>() : pack_linear(call, workers)),
      how_{call.shape(1)[0], call.shape(1)[1], call.packed ? call.packed : own_.data(),
           call.data(2)} {}

Shape product_shape(const TokenOpCall& call) {
  Shape y = call.shape(0);
  const Shape& weight = call.shape(1);
  const bool fits = !y.empty() && weight.size() == 2 && weight[0] == y.back() && weight[0] > 0 &&
                    call.shape(2) == Shape{weight[1]};
  if (!fits) return {};
  y.back() = weight[1];
  return y;
}

extern const TokenOp norm_linear_op = {norm_linear_name, 5, -1,         false, check_norm_linear,
                                       run_norm_linear,  3, pack_linear};
extern const TokenOp linear_add_op = {linear_add_name, 4, 3,          true, check_linear_add,
                                      run_linear_add,  3, pack_linear};
extern const TokenOp folded_norm_op = {folded_norm_name, 3, -1,         false, check_folded_norm,
                                       run_folded_norm,  3, pack_linear};
extern const TokenOp relu_linear_op = {relu_linear_name, 5, -1,         false, check_relu_linear,
                                       run_relu_linear,  3, pack_linear};
extern const TokenOp gelu_linear_add_op = {
    gelu_linear_add_name, 6, 5, true, check_gelu_linear_add, run_gelu_linear_add, 3, pack_linear};

}  // namespace sgmf
