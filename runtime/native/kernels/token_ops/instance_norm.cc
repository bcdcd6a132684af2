#include "kernels/token_ops/instance_norm.h"

#include <algorithm>
#include <cmath>

namespace sgmf {
namespace {

Shape check(const TokenOpCall& call, const char* name) {
  const Shape& x = call.shape(0);
  const Shape vector = {x.size() == 5 ? x[4] : 0};
  if (x.size() != 5 || call.shape(1) != vector || call.shape(2) != vector) {
    refuse_shapes(name, "x (B, D, H, W, C), scale (C) and bias (C)", call);
  }
  return x;
}

// The moments of the parts of one batch entry, then of them together.
class PartMoments {
 public:
  PartMoments(int64_t parts, int64_t channels)
      : channels_(channels),
        values_(2 * parts * channels),
        parts_(parts) {
    for (int64_t i = 0; i < parts; ++i) {
      double* mean = values_.data() + 2 * i * channels;
      parts_[i] = {0, mean, mean + channels};
    }
  }

  Moments& part(int64_t i) { return parts_[i]; }

  // The formula of Chan, Golub and LeVeque, as in the kernel.
  const Moments& together() {
    Moments& all = parts_[0];
    for (std::size_t i = 1; i < parts_.size(); ++i) {
      const Moments& next = parts_[i];
      const double share = static_cast<double>(next.tokens) / (all.tokens + next.tokens);
      const double weight = static_cast<double>(all.tokens) * share;
      for (int64_t c = 0; c < channels_; ++c) {
        const double distance = next.mean[c] - all.mean[c];
        all.mean[c] += distance * share;
        all.spread[c] += next.spread[c] + distance * distance * weight;
      }
      all.tokens += next.tokens;
    }
    return all;
  }

 private:
  int64_t channels_;
  std::vector<double> values_;
  std::vector<Moments> parts_;
};

void run(const TokenOpCall& call, float* y, const Workers& workers, Activation activation) {
  const Shape& shape = call.shape(0);
  const int64_t channels = shape[4];
  const int64_t tokens = shape[1] * shape[2] * shape[3];
  for (int64_t b = 0; b < shape[0]; ++b) {
    const float* x = call.data(0) + b * tokens * channels;
    float* out = y + b * tokens * channels;
    const NormFactors factors = find_factors(x, tokens, channels, call.data(1), call.data(2),
                                             call.attributes.epsilon, workers);
    const Normalise how = factors.with(activation, call.attributes.alpha);
    for_each_span(workers.parallel, tokens, channels, [&](int64_t begin, int64_t end) {
      workers.kernels.instance_norm->normalise(how, x + begin * channels, end - begin, channels,
                                               out + begin * channels);
    });
  }
}

constexpr const char* gelu_name = "InstanceNormGelu";
constexpr const char* relu_name = "InstanceNormRelu";
constexpr const char* tokens_name = "InstanceNormTokens";

}  // namespace

NormFactors find_factors(const float* x, int64_t tokens, int64_t channels, const float* scale,
                         const float* bias, float epsilon, const Workers& workers) {
  // A part does not depend on the number of threads, and neither does a sum.
  constexpr int64_t part_size = 1 << 18;
  const int64_t part = std::max<int64_t>(part_size / channels, (tokens + 255) / 256);
  const int64_t parts = (tokens + part - 1) / part;
  PartMoments moments(parts, channels);
  workers.parallel(static_cast<std::size_t>(parts), [&](std::size_t i) {
    const int64_t begin = static_cast<int64_t>(i) * part;
    workers.kernels.instance_norm->measure(x + begin * channels, std::min(part, tokens - begin),
                                           channels, &moments.part(i));
  });
  const Moments& all = moments.together();
  NormFactors found;
  for (int64_t c = 0; c < channels; ++c) {
    const double variance = all.spread[c] / static_cast<double>(all.tokens);
    const double gain = scale[c] / std::sqrt(variance + epsilon);
    found.centre.push_back(static_cast<float>(all.mean[c]));
    found.gain.push_back(static_cast<float>(gain));
    found.offset.push_back(static_cast<float>(bias[c] - (all.mean[c] - found.centre[c]) * gain));
  }
  return found;
}

extern const TokenOp instance_norm_gelu_op = {
    gelu_name,
    3,
    0,
    true,
    [](const TokenOpCall& call) { return check(call, gelu_name); },
    [](const TokenOpCall& call, float* y, const Workers& workers) {
      run(call, y, workers, Activation::gelu);
    }};

extern const TokenOp instance_norm_relu_op = {
    relu_name,
    3,
    0,
    true,
    [](const TokenOpCall& call) { return check(call, relu_name); },
    [](const TokenOpCall& call, float* y, const Workers& workers) {
      run(call, y, workers, Activation::relu);
    }};

extern const TokenOp instance_norm_tokens_op = {
    tokens_name,
    3,
    0,
    true,
    [](const TokenOpCall& call) {
      check_slope(call, tokens_name);
      return check(call, tokens_name);
    },
    [](const TokenOpCall& call, float* y, const Workers& workers) {
      run(call, y, workers, Activation::leaky);
    }};

}  // namespace sgmf
