// The ops of token_ops.h for callers inside the library, who bring their own threads.
#pragma once

#include <array>
#include <vector>

#include "kernels/cpu_isa.h"
#include "kernels/parallel.h"
#include "kernels/tensor.h"

namespace sgmf {

// Attributes of a node; absent ones keep the values here.
struct Attributes {
  int64_t group = 0;
  float epsilon = 1e-5f;
  float alpha = 1.0f;
  std::array<float, 3> scales = {};
  std::array<int64_t, 3> strides = {};
  std::array<int64_t, 6> pads = {};  // before all axes of the op, then after them
};

struct TokenOpCall {
  std::vector<Tensor> inputs;
  Attributes attributes;
  const float* packed = nullptr;  // what the op's `pack` made of these weights, if it was kept

  const Shape& shape(std::size_t input) const { return inputs[input].shape; }
  const float* data(std::size_t input) const {
    return static_cast<const float*>(inputs[input].data);
  }
};

// Threads and instruction set of a call.
struct Workers {
  const CpuKernels& kernels;
  int threads;  // that `parallel` has; they decide how work is cut, never the result
  const ParallelFor& parallel;
};

struct TokenOp {
  const char* name;
  std::size_t input_count;  // all of them required
  int shaped_like;          // the input that has the shape of the result, or -1
  bool in_place;            // whether the result may take the memory of that input
  // The shape of the result. Throws std::invalid_argument unless all inputs and attributes fit.
  Shape (*check)(const TokenOpCall& call);
  // Runs a call that was checked and whose result is not empty.
  void (*run)(const TokenOpCall& call, float* y, const Workers& workers);
  int axes = 3;  // that it works along; pads has two values for each
  // Lays the weights, input 1 of a call that was checked, out as the kernels read them. Whoever
  // runs the op often with the same weights keeps them; nullptr if there is nothing to lay out.
  std::vector<float> (*pack)(const TokenOpCall& call, const Workers& workers) = nullptr;
};

const std::vector<const TokenOp*>& token_ops();

// Throws std::invalid_argument: "`op`: expected `expected`; found ", then the shapes of the inputs.
[[noreturn]] void refuse_shapes(const char* op, const char* expected, const TokenOpCall& call);

// Throws std::invalid_argument unless alpha is a slope of a leaky ReLU between 0 and 1.
void check_slope(const TokenOpCall& call, const char* op);

// Tells `run` to do the rows of a tensor, span by span: wide enough to be worth a task, and no more
// tasks than keep many threads busy.
void for_each_span(const ParallelFor& parallel, int64_t rows, int64_t row_size,
                   const std::function<void(int64_t begin, int64_t end)>& run);

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// (channels, taps) as (taps, channels).
std::vector<float> taps_first(const float* weight, int64_t channels, int64_t taps);

}  // namespace sgmf
