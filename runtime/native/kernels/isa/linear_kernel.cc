// Matrix products of tokens with weights, and layer norms, compiled once for each instruction set.
//
// Output channels lie across the lanes. Weights are packed in panels of up to three vectors of
// outputs, (inputs, panel); the sums of a few tokens for one panel stay in registers while all
// inputs pass.
#include "kernels/isa/linear_kernel.h"

#include <algorithm>
#include <cmath>

#include "kernels/isa/simd.h"

namespace SGMF_ISA {
namespace {

using sgmf::FoldedNorm;
using sgmf::LayerNorm;
using sgmf::Linear;

// Sums, the weights of an input and one of its values must fit the registers.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int sums = 24;
#else
constexpr int sums = 12;
#endif

// Vectors of the next panel: never a last one alone, whose few sums would wait for each other.
int panel_vectors(int64_t left) {
  return left == 4 ? 2 : static_cast<int>(std::min<int64_t>(left, 3));
}

int64_t vectors_of(int64_t outputs) { return (outputs + lane_count - 1) / lane_count; }

// Calls f(first vector, vectors) for each panel.
template <typename F>
void for_each_panel(int64_t outputs, F f) {
  const int64_t all = vectors_of(outputs);
  for (int64_t first = 0; first < all;) {
    const int count = panel_vectors(all - first);
    f(first, count);
    first += count;
  }
}

// Some tokens and one panel: its weights, and where its outputs lie in a row of y.
struct Panel {
  const Linear& how;
  int64_t channel;
  const float* weights;
  int lanes;  // of its last vector
};

template <int tokens, int vectors>
void multiply_block(const Panel& panel, const float* x, const float* rest, float* y) {
  const int64_t inputs = panel.how.inputs, outputs = panel.how.outputs;
  const float* bias = panel.how.bias + panel.channel;
  Vec sum[tokens][vectors];
  for (int v = 0; v < vectors; ++v) {
    const Vec b = v + 1 < vectors ? load(bias + v * lane_count)
                                  : load_lanes(bias + v * lane_count, panel.lanes);
    for (int t = 0; t < tokens; ++t) sum[t][v] = b;
  }
  const float* weights = panel.weights;
  for (int64_t k = 0; k < inputs; ++k, weights += vectors * lane_count) {
    Vec weight[vectors];
    for (int v = 0; v < vectors; ++v) weight[v] = load(weights + v * lane_count);
#pragma GCC unroll 24
    for (int t = 0; t < tokens; ++t) {
      const Vec value = splat(x[t * inputs + k]);
      for (int v = 0; v < vectors; ++v) sum[t][v] = fma(value, weight[v], sum[t][v]);
    }
  }
  const auto finish = [&](int t, int v, auto lanes) {
    const int64_t at = t * outputs + panel.channel + v * lane_count;
    if (rest) sum[t][v] = sum[t][v] + load_lanes(rest + at, lanes);
    store_lanes(y + at, sum[t][v], lanes);
  };
  for (int t = 0; t < tokens; ++t) {
    for (int v = 0; v + 1 < vectors; ++v) finish(t, v, AllLanes());
    if (panel.lanes == lane_count) {
      finish(t, vectors - 1, AllLanes());
    } else {
      finish(t, vectors - 1, panel.lanes);
    }
  }
}

template <int vectors>
void multiply_panel(const Panel& panel, const float* x, int64_t tokens, const float* rest,
                    float* y) {
  int64_t t = 0;
  const auto pass = [&](int size, auto multiply) {
    for (; t + size <= tokens; t += size) {
      const int64_t row = t * panel.how.outputs;
      multiply(panel, x + t * panel.how.inputs, rest ? rest + row : nullptr, y + row);
    }
  };
  pass(sums / vectors, multiply_block<sums / vectors, vectors>);
  pass(1, multiply_block<1, vectors>);
}

void multiply(const Linear& how, const float* x, int64_t tokens, const float* rest, float* y) {
  for_each_panel(how.outputs, [&](int64_t first, int vectors) {
    const int64_t channel = first * lane_count;
    const int64_t left = how.outputs - channel - (vectors - 1) * lane_count;
    const Panel panel{how, channel, how.weights + channel * how.inputs,
                      static_cast<int>(std::min<int64_t>(left, lane_count))};
    if (vectors == 3) return multiply_panel<3>(panel, x, tokens, rest, y);
    if (vectors == 2) return multiply_panel<2>(panel, x, tokens, rest, y);
    multiply_panel<1>(panel, x, tokens, rest, y);
  });
}

int64_t packed_size(int64_t inputs, int64_t outputs) {
  return inputs * vectors_of(outputs) * lane_count;
}

void pack(const float* weight, int64_t inputs, int64_t outputs, float* packed) {
  for_each_panel(outputs, [&](int64_t first, int vectors) {
    const int64_t begin = first * lane_count;
    const int64_t end = begin + vectors * lane_count;
    for (int64_t k = 0; k < inputs; ++k) {
      for (int64_t i = begin; i < end; ++i) {
        *packed++ = i < outputs ? weight[k * outputs + i] : 0.0f;
      }
    }
  });
}

// Calls f(first token, tokens) for as many tokens as a vector has lanes, then for the rest.
template <typename F>
void for_each_lane_block(int64_t tokens, F f) {
  for (int64_t t = 0; t < tokens; t += lane_count) {
    f(t, std::min<int64_t>(lane_count, tokens - t));
  }
}

// The sum over the lanes of each of as many vectors, one in each lane.
Vec sums_of_lanes(Vec* a) {
  for (int size = lane_count / 2; size > 0; size /= 2) {
    for (int i = 0; i < size; ++i) {
      a[i] = even_of(a[2 * i], a[2 * i + 1]) + odd_of(a[2 * i], a[2 * i + 1]);
    }
  }
  return a[0];
}

// A sum, vector by vector, for each of up to lane_count tokens: its lanes together, times `share`.
template <typename F>
void sum_tokens(int64_t tokens, Vec share, float* sums, F sum_token) {
  Vec partial[lane_count];
  for (int t = 0; t < lane_count; ++t) partial[t] = t < tokens ? sum_token(t) : splat(0.0f);
  store(sums, sums_of_lanes(partial) * share);
}

// Layer norms of up to lane_count tokens, whose sums over channels share their last steps.
//
// Sums the distances from the mean, not squares of values, which lose digits to a mean far from
// zero.
void normalise_block(const LayerNorm& how, const float* x, int64_t tokens, float* y) {
  const int64_t channels = how.channels;
  const Vec share = splat(1.0f / static_cast<float>(channels));
  float mean[lane_count], variance[lane_count], ones[lane_count];
  store(ones, splat(1.0f));
  sum_tokens(tokens, share, mean, [&](int t) {
    Vec sum = splat(0.0f);
    for_each_vector(channels, [&](int64_t c, auto lanes) {
      sum = sum + load_lanes(x + t * channels + c, lanes);
    });
    return sum;
  });
  sum_tokens(tokens, share, variance, [&](int t) {
    Vec squares = splat(0.0f);
    const Vec centre = splat(mean[t]);
    for_each_vector(channels, [&](int64_t c, auto lanes) {
      // Lanes beyond the last channel must add nothing.
      const Vec distance =
          load_lanes(x + t * channels + c, lanes) - centre * load_lanes(ones, lanes);
      squares = fma(distance, distance, squares);
    });
    return squares;
  });
  for (int t = 0; t < tokens; ++t) {
    const Vec centre = splat(mean[t]);
    const Vec gain = splat(1.0f / std::sqrt(variance[t] + how.epsilon));
    for_each_vector(channels, [&](int64_t c, auto lanes) {
      const int64_t at = t * channels + c;
      const Vec scaled = (load_lanes(x + at, lanes) - centre) * gain;
      store_lanes(y + at,
                  fma(scaled, load_lanes(how.scale + c, lanes), load_lanes(how.shift + c, lanes)),
                  lanes);
    });
  }
}

void normalise(const LayerNorm& how, const float* x, int64_t tokens, float* y) {
  for_each_lane_block(tokens, [&](int64_t t, int64_t count) {
    normalise_block(how, x + t * how.channels, count, y + t * how.channels);
  });
}

void divide_block(const FoldedNorm& how, const float* x, const float* product, int64_t tokens,
                  float* y) {
  float squares[lane_count];
  sum_tokens(tokens, splat(1.0f), squares, [&](int t) {
    Vec sum = splat(0.0f);
    for_each_vector(how.width, [&](int64_t k, auto lanes) {
      const Vec value = load_lanes(product + t * how.width + k, lanes);
      sum = fma(value, value, sum);
    });
    return sum;
  });
  for (int t = 0; t < tokens; ++t, x += how.channels, y += how.channels + 1) {
    const float gain = 1.0f / std::sqrt(squares[t] + how.epsilon);
    for_each_vector(how.channels, [&](int64_t c, auto lanes) {
      store_lanes(y + c, load_lanes(x + c, lanes) * splat(gain), lanes);
    });
    y[how.channels] = gain;
  }
}

void divide(const FoldedNorm& how, const float* x, const float* product, int64_t tokens, float* y) {
  for_each_lane_block(tokens, [&](int64_t t, int64_t count) {
    divide_block(how, x + t * how.channels, product + t * how.width, count,
                 y + t * (how.channels + 1));
  });
}

}  // namespace

extern const sgmf::LinearKernel linear_kernel = {packed_size, pack, multiply, normalise, divide};

}  // namespace SGMF_ISA
