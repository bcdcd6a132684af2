// Interface between the ops around matrix products of tokens and their kernels, one for each
// instruction set.
#pragma once

#include <cstdint>

namespace sgmf {

// y = x weight + bias, and `rest` added where there is one.
struct Linear {
  int64_t inputs;
  int64_t outputs;
  const float* weights;  // packed
  const float* bias;     // (outputs)
};

// A layer norm over the channels of a token.
struct LayerNorm {
  int64_t channels;
  float epsilon;
  const float* scale;  // (channels)
  const float* shift;  // (channels)
};

// What is left of a layer norm of x P at the width of x: see FoldedNorm in token_ops.h.
struct FoldedNorm {
  int64_t channels;  // of x
  int64_t width;     // of its product
  float epsilon;
};

struct LinearKernel {
  int64_t (*packed_size)(int64_t inputs, int64_t outputs);  // floats
  // Packs a weight (inputs, outputs).
  void (*pack)(const float* weight, int64_t inputs, int64_t outputs, float* packed);
  // x is (tokens, inputs), y and rest (tokens, outputs); rest may be nullptr, or y.
  void (*multiply)(const Linear& how, const float* x, int64_t tokens, const float* rest, float* y);
  void (*normalise)(const LayerNorm& how, const float* x, int64_t tokens, float* y);
  // x is (tokens, channels), product (tokens, width) and y (tokens, channels + 1).
  void (*divide)(const FoldedNorm& how, const float* x, const float* product, int64_t tokens,
                 float* y);
};

}  // namespace sgmf
