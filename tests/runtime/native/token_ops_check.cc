// Checks the ops of sgmf/token_ops.h through their C header, on whatever processor this runs:
// every instruction set against the definition in double precision. Prints one line for each
// instruction set; exits with 1 where a result is off.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/interface/token_ops.h"

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Extents = std::vector<int64_t>;

int64_t size_of(const Extents& extents) {
  int64_t size = 1;
  for (int64_t extent : extents) size *= extent;
  return size;
}

struct Tensor {
  Extents extents;
  Floats values;
};

Tensor draw(std::mt19937& random, const Extents& extents) {
  std::normal_distribution<float> normal;
  Tensor drawn{extents, Floats(size_of(extents))};
  for (float& value : drawn.values) value = normal(random);
  return drawn;
}

sgmf_tensor view(Tensor& tensor) {
  sgmf_tensor view{tensor.values.data(), static_cast<int32_t>(tensor.extents.size()), {}};
  std::copy(tensor.extents.begin(), tensor.extents.end(), view.extent);
  return view;
}

// An op, its inputs and attributes, and the definition.
struct Case {
  sgmf_token_op_args args{};
  std::vector<Tensor> inputs;
  Extents extents;
  Doubles exact;
};

double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

Case depthwise(std::mt19937& random, const Extents& e) {
  Case c{{}, {draw(random, e), draw(random, {e[4], 1, 3, 3, 3}), draw(random, {e[4]})}, e, {}};
  c.args.op = "DepthwiseConv3d";
  c.args.group = e[4];
  const Floats& x = c.inputs[0].values;
  for (int64_t i = 0; i < size_of(e); ++i) {
    const int64_t ch = i % e[4], w = i / e[4] % e[3], h = i / (e[4] * e[3]) % e[2];
    const int64_t d = i / (e[4] * e[3] * e[2]) % e[1];
    double sum = c.inputs[2].values[ch];
    for (int64_t k = 0; k < 27; ++k) {
      const int64_t dd = k / 9 - 1, dh = k / 3 % 3 - 1, dw = k % 3 - 1;
      if (d + dd < 0 || d + dd >= e[1] || h + dh < 0 || h + dh >= e[2]) continue;
      if (w + dw < 0 || w + dw >= e[3]) continue;
      const int64_t from = i + ((dd * e[2] + dh) * e[3] + dw) * e[4];
      sum += static_cast<double>(x[from]) * c.inputs[1].values[ch * 27 + k];
    }
    c.exact.push_back(sum);
  }
  return c;
}

// x (1, C, D, H, W) to `outputs` channels by kernels of `k` taps.
Case dense(std::mt19937& random, const Extents& e, int64_t outputs, const Extents& k,
           const Extents& strides) {
  const int64_t taps = size_of(k);
  Case c{
      {},
      {draw(random, e), draw(random, {outputs, e[1], k[0], k[1], k[2]}), draw(random, {outputs})},
      {1, outputs},
      {}};
  c.args.op = "Conv3d";
  for (int axis = 0; axis < 3; ++axis) {
    c.args.strides[axis] = strides[axis];
    c.args.pads[axis] = c.args.pads[3 + axis] = k[axis] / 2;
    c.extents.push_back((e[2 + axis] - 1) / strides[axis] + 1);
  }
  const Extents& y = c.extents;
  for (int64_t i = 0; i < size_of(y); ++i) {
    const int64_t w = i % y[4] * strides[2], h = i / y[4] % y[3] * strides[1];
    const int64_t d = i / (y[4] * y[3]) % y[2] * strides[0], out = i / (y[4] * y[3] * y[2]);
    double sum = c.inputs[2].values[out];
    for (int64_t t = 0; t < e[1] * taps; ++t) {
      const int64_t in_d = d + t / (k[1] * k[2]) % k[0] - k[0] / 2;
      const int64_t in_h = h + t / k[2] % k[1] - k[1] / 2, in_w = w + t % k[2] - k[2] / 2;
      if (in_d < 0 || in_d >= e[2] || in_h < 0 || in_h >= e[3] || in_w < 0 || in_w >= e[4])
        continue;
      const int64_t from = ((t / taps * e[2] + in_d) * e[3] + in_h) * e[4] + in_w;
      sum +=
          static_cast<double>(c.inputs[0].values[from]) * c.inputs[1].values[out * e[1] * taps + t];
    }
    c.exact.push_back(sum);
  }
  return c;
}

// x (1, C, D, H, W), each voxel of which becomes `k` outputs of each of `outputs` channels.
Case transposed(std::mt19937& random, const Extents& e, int64_t outputs, const Extents& k) {
  const int64_t taps = size_of(k);
  Case c{
      {},
      {draw(random, e), draw(random, {e[1], outputs, k[0], k[1], k[2]}), draw(random, {outputs})},
      {1, outputs, e[2] * k[0], e[3] * k[1], e[4] * k[2]},
      {}};
  c.args.op = "ConvTranspose3d";
  std::copy(k.begin(), k.end(), c.args.strides);
  const Extents& y = c.extents;
  for (int64_t i = 0; i < size_of(y); ++i) {
    const int64_t w = i % y[4], h = i / y[4] % y[3], d = i / (y[4] * y[3]) % y[2];
    const int64_t out = i / (y[4] * y[3] * y[2]);
    const int64_t tap = (d % k[0] * k[1] + h % k[1]) * k[2] + w % k[2];
    const int64_t from = (d / k[0] * e[3] + h / k[1]) * e[4] + w / k[2];
    double sum = c.inputs[2].values[out];
    for (int64_t ch = 0; ch < e[1]; ++ch) {
      sum += static_cast<double>(c.inputs[0].values[ch * e[2] * e[3] * e[4] + from]) *
             c.inputs[1].values[(ch * outputs + out) * taps + tap];
    }
    c.exact.push_back(sum);
  }
  return c;
}

Case norm(std::mt19937& random, const Extents& e, bool with_gelu) {
  Case c{{}, {draw(random, e), draw(random, {e[4]}), draw(random, {e[4]})}, e, {}};
  c.args.op = with_gelu ? "InstanceNormGelu" : "InstanceNormRelu";
  c.args.epsilon = 1e-5f;
  const int64_t tokens = e[1] * e[2] * e[3];
  for (int64_t i = 0; i < size_of(e); ++i) {
    const int64_t ch = i % e[4];
    const float* entry = c.inputs[0].values.data() + i / (tokens * e[4]) * tokens * e[4] + ch;
    double mean = 0, variance = 0;
    for (int64_t t = 0; t < tokens; ++t) mean += entry[t * e[4]] / static_cast<double>(tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      variance += std::pow(entry[t * e[4]] - mean, 2) / static_cast<double>(tokens);
    }
    const double x = (c.inputs[0].values[i] - mean) / std::sqrt(variance + 1e-5f);
    const double y = x * c.inputs[1].values[ch] + c.inputs[2].values[ch];
    c.exact.push_back(with_gelu ? gelu(y) : std::max(y, 0.0));
  }
  return c;
}

// Channel-major, over one to three axes, a residual added or not, then what is negative
// multiplied with `alpha`.
Case volume_norm(std::mt19937& random, const Extents& e, float alpha, bool add) {
  Case c{{}, {draw(random, e), draw(random, {e[1]}), draw(random, {e[1]})}, e, {}};
  c.args.op = add ? "InstanceNormAdd" : "InstanceNorm";
  if (add) c.inputs.push_back(draw(random, e));
  c.args.epsilon = 1e-5f;
  c.args.alpha = alpha;
  const int64_t voxels = size_of(e) / (e[0] * e[1]);
  for (int64_t row = 0; row < e[0] * e[1]; ++row) {
    const float* x = c.inputs[0].values.data() + row * voxels;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < voxels; ++i) mean += x[i] / static_cast<double>(voxels);
    for (int64_t i = 0; i < voxels; ++i) {
      variance += std::pow(x[i] - mean, 2) / static_cast<double>(voxels);
    }
    const double gain = c.inputs[1].values[row % e[1]] / std::sqrt(variance + 1e-5f);
    for (int64_t i = 0; i < voxels; ++i) {
      const double rest = add ? c.inputs[3].values[row * voxels + i] : 0.0;
      const double y = (x[i] - mean) * gain + c.inputs[2].values[row % e[1]] + rest;
      c.exact.push_back(y > 0 ? y : alpha * y);
    }
  }
  return c;
}

// The value of an axis of `low` positions, `stride` floats apart, at position `o` of the output.
template <typename F>
double interpolate(int64_t low, int64_t scale, int64_t o, const F& at) {
  const double source = std::max(0.0, (o + 0.5) / static_cast<double>(scale) - 0.5);
  const int64_t lower = static_cast<int64_t>(source);
  const double weight = source - static_cast<double>(lower);
  return (1 - weight) * at(lower) + weight * at(std::min(lower + 1, low - 1));
}

// Channel-major, or token-major and added to a second input.
Case upsample(std::mt19937& random, const Extents& e, const Extents& scales, bool add) {
  const int first = add ? 1 : 2;
  Extents high = e;
  for (int i = 0; i < 3; ++i) high[first + i] *= scales[i];
  Case c{{}, {draw(random, e)}, high, {}};
  if (add) c.inputs.push_back(draw(random, high));
  c.args.op = add ? "UpsampleAdd" : "Upsample";
  std::copy(scales.begin(), scales.end(), c.args.scales);
  const Floats& x = c.inputs[0].values;
  const int64_t inner = add ? e[4] : 1;
  const int64_t* low = e.data() + first;
  const int64_t* up = high.data() + first;
  for (int64_t i = 0; i < size_of(high); ++i) {
    const int64_t w = i / inner % up[2], h = i / (inner * up[2]) % up[1];
    const int64_t d = i / (inner * up[2] * up[1]) % up[0];
    const int64_t entry = i / (inner * up[2] * up[1] * up[0]);
    const double value = interpolate(low[0], scales[0], d, [&](int64_t ld) {
      return interpolate(low[1], scales[1], h, [&](int64_t lh) {
        return interpolate(low[2], scales[2], w, [&](int64_t lw) {
          const int64_t token = ((entry * low[0] + ld) * low[1] + lh) * low[2] + lw;
          return static_cast<double>(x[token * inner + i % inner]);
        });
      });
    });
    c.exact.push_back(value + (add ? c.inputs[1].values[i] : 0.0));
  }
  return c;
}

// Channel-major, every voxel repeated.
Case nearest(std::mt19937& random, const Extents& e, const Extents& scales) {
  Case c{{}, {draw(random, e)}, e, {}};
  for (int i = 0; i < 3; ++i) c.extents[2 + i] *= scales[i];
  c.args.op = "UpsampleNearest";
  std::copy(scales.begin(), scales.end(), c.args.scales);
  const int64_t* high = c.extents.data() + 2;
  for (int64_t i = 0; i < size_of(c.extents); ++i) {
    const int64_t w = i % high[2] / scales[2], h = i / high[2] % high[1] / scales[1];
    const int64_t d = i / (high[2] * high[1]) % high[0] / scales[0];
    const int64_t channel = i / (high[2] * high[1] * high[0]);
    c.exact.push_back(c.inputs[0].values[((channel * e[2] + d) * e[3] + h) * e[4] + w]);
  }
  return c;
}

Case causal(std::mt19937& random, const Extents& e, int64_t taps) {
  Case c{{}, {draw(random, e), draw(random, {e[2], 1, taps}), draw(random, {e[2]})}, e, {}};
  c.args.op = "CausalConv1dSilu";
  c.args.group = e[2];
  c.args.pads[0] = taps - 1;
  for (int64_t i = 0; i < size_of(e); ++i) {
    const int64_t ch = i % e[2], t = i / e[2] % e[1];
    double sum = c.inputs[2].values[ch];
    for (int64_t k = std::max<int64_t>(0, taps - 1 - t); k < taps; ++k) {
      const int64_t from = i + (k - taps + 1) * e[2];
      sum += static_cast<double>(c.inputs[0].values[from]) * c.inputs[1].values[ch * taps + k];
    }
    c.exact.push_back(sum / (1 + std::exp(-sum)));
  }
  return c;
}

// Kernel `k`, stride `s` and padding `p` along each axis.
Case patches(std::mt19937& random, const Extents& e, int64_t channels, const Extents& k,
             const Extents& s, const Extents& p) {
  Extents out = {e[0], 0, 0, 0, channels};
  for (int i = 0; i < 3; ++i) out[1 + i] = (e[2 + i] + 2 * p[i] - k[i]) / s[i] + 1;
  const Extents weight = {channels, e[1], k[0], k[1], k[2]};
  Case c{{}, {draw(random, e), draw(random, weight), draw(random, {channels})}, out, {}};
  c.args.op = "PatchEmbed";
  std::copy(s.begin(), s.end(), c.args.strides);
  for (int i = 0; i < 6; ++i) c.args.pads[i] = p[i % 3];
  for (int64_t i = 0; i < size_of(out); ++i) {
    const int64_t ch = i % channels, token = i / channels;
    const int64_t at[] = {token / (out[3] * out[2]) % out[1], token / out[3] % out[2],
                          token % out[3]};
    const int64_t entry = token / (out[3] * out[2] * out[1]);
    double sum = c.inputs[2].values[ch];
    for (int64_t t = 0; t < e[1] * k[0] * k[1] * k[2]; ++t) {
      const int64_t tap[] = {t / (k[2] * k[1]) % k[0], t / k[2] % k[1], t % k[2]};
      int64_t from = entry * e[1] + t / (k[2] * k[1] * k[0]);
      bool inside = true;
      for (int a = 0; a < 3; ++a) {
        const int64_t source = at[a] * s[a] + tap[a] - p[a];
        inside = inside && source >= 0 && source < e[2 + a];
        from = from * e[2 + a] + source;
      }
      const float w = c.inputs[1].values[ch * e[1] * k[0] * k[1] * k[2] + t];
      if (inside) sum += static_cast<double>(c.inputs[0].values[from]) * w;
    }
    c.exact.push_back(sum);
  }
  return c;
}

// Tokens of `c` channels and a product with (c, k): after a layer norm, or with a residual.
Case linear(std::mt19937& random, int64_t tokens, int64_t c, int64_t k, bool with_norm) {
  Case made{{}, {draw(random, {tokens, c}), draw(random, {c, k}), draw(random, {k})}, {}, {}};
  made.extents = {tokens, k};
  made.args.op = with_norm ? "NormLinear" : "LinearAdd";
  made.args.epsilon = 1e-5f;
  if (with_norm) {
    made.inputs.push_back(draw(random, {c}));
    made.inputs.push_back(draw(random, {c}));
  } else {
    made.inputs.push_back(draw(random, {tokens, k}));
  }
  for (int64_t t = 0; t < tokens; ++t) {
    const float* x = made.inputs[0].values.data() + t * c;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < c; ++i) mean += x[i] / static_cast<double>(c);
    for (int64_t i = 0; i < c; ++i) variance += std::pow(x[i] - mean, 2) / static_cast<double>(c);
    for (int64_t j = 0; j < k; ++j) {
      double sum = made.inputs[2].values[j];
      if (!with_norm) sum += made.inputs[3].values[t * k + j];
      for (int64_t i = 0; i < c; ++i) {
        double value = x[i];
        if (with_norm) {
          value = (x[i] - mean) / std::sqrt(variance + 1e-5f) * made.inputs[3].values[i] +
                  made.inputs[4].values[i];
        }
        sum += value * made.inputs[1].values[i * k + j];
      }
      made.exact.push_back(sum);
    }
  }
  return made;
}

// Tokens of `c` channels, divided by the norm of their product with (c, k).
Case folded_norm(std::mt19937& random, int64_t tokens, int64_t c, int64_t k) {
  Case made{{}, {draw(random, {tokens, c}), draw(random, {c, k}), draw(random, {k})}, {}, {}};
  made.extents = {tokens, c + 1};
  made.args.op = "FoldedNorm";
  made.args.epsilon = 1e-5f;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* x = made.inputs[0].values.data() + t * c;
    double squares = 1e-5f;
    for (int64_t j = 0; j < k; ++j) {
      double sum = made.inputs[2].values[j];
      for (int64_t i = 0; i < c; ++i) {
        sum += static_cast<double>(x[i]) * made.inputs[1].values[i * k + j];
      }
      squares += sum * sum;
    }
    for (int64_t i = 0; i < c; ++i) made.exact.push_back(x[i] / std::sqrt(squares));
    made.exact.push_back(1 / std::sqrt(squares));
  }
  return made;
}

// The layer norm of `e` turned by any tables.
Case rotary(std::mt19937& random, const Extents& e) {
  const int64_t c = e[4], third = c / 3, half = third / 2;
  const Extents table = {e[1] + e[2] + e[3], third};
  Case made{{},
            {draw(random, e), draw(random, table), draw(random, table), draw(random, {c}),
             draw(random, {c})},
            e,
            {}};
  made.args.op = "RotaryNorm";
  made.args.epsilon = 1e-5f;
  for (int64_t t = 0; t < size_of(e) / c; ++t) {
    const float* x = made.inputs[0].values.data() + t * c;
    const int64_t rows[] = {t / (e[3] * e[2]) % e[1], e[1] + t / e[3] % e[2],
                            e[1] + e[2] + t % e[3]};
    std::vector<double> turned;
    for (int64_t i = 0; i < c; ++i) {
      const int64_t partner = i % third < half ? i + half : i - half;
      const int64_t at = rows[i / third] * third + i % third;
      turned.push_back(static_cast<double>(x[i]) * made.inputs[1].values[at] +
                       static_cast<double>(x[partner]) * made.inputs[2].values[at]);
    }
    double mean = 0, variance = 0;
    for (double value : turned) mean += value / static_cast<double>(c);
    for (double value : turned) variance += std::pow(value - mean, 2) / static_cast<double>(c);
    for (int64_t i = 0; i < c; ++i) {
      made.exact.push_back((turned[i] - mean) / std::sqrt(variance + 1e-5f) *
                               made.inputs[3].values[i] +
                           made.inputs[4].values[i]);
    }
  }
  return made;
}

// Largest error, relative to the largest value.
double error(Case& c, int threads, const char* isa) {
  Tensor y{c.extents, Floats(size_of(c.extents), NAN)};
  c.args.input_count = static_cast<int32_t>(c.inputs.size());
  for (size_t i = 0; i < c.inputs.size(); ++i) c.args.inputs[i] = view(c.inputs[i]);
  c.args.y = view(y);
  if (const char* refused = sgmf_token_op(&c.args, threads, isa)) {
    std::printf("refused: %s\n", refused);
  }
  double largest = 1e-30;
  double worst = 0;
  for (double exact : c.exact) largest = std::max(largest, std::fabs(exact));
  for (size_t i = 0; i < c.exact.size(); ++i) {
    const double off = std::fabs(y.values[i] - c.exact[i]);
    worst = off <= worst * largest ? worst : off / largest;  // NaN becomes the worst
  }
  return worst;
}

}  // namespace

int main() {
  std::mt19937 random(7);
  std::vector<Case> cases = {
      depthwise(random, {2, 2, 1, 3, 5}),
      depthwise(random, {1, 3, 9, 21, 20}),
      dense(random, {1, 5, 3, 5, 7}, 9, {3, 3, 3}, {1, 1, 1}),
      dense(random, {1, 5, 6, 26, 35}, 9, {3, 3, 3}, {1, 1, 1}),
      dense(random, {1, 5, 4, 26, 35}, 9, {1, 3, 3}, {1, 1, 1}),
      dense(random, {1, 5, 7, 25, 35}, 9, {3, 3, 3}, {2, 2, 2}),
      dense(random, {1, 5, 4, 26, 33}, 9, {3, 3, 3}, {1, 2, 2}),
      dense(random, {1, 11, 5, 29, 35}, 9, {1, 1, 1}, {1, 1, 1}),
      transposed(random, {1, 11, 5, 7, 35}, 9, {2, 2, 2}),
      transposed(random, {1, 5, 3, 29, 19}, 7, {3, 1, 1}),
      norm(random, {2, 2, 3, 5, 23}, true),
      norm(random, {1, 3, 3, 13, 16}, false),
      volume_norm(random, {2, 3, 3, 5, 23}, 1.0f, false),
      volume_norm(random, {2, 5, 999}, 0.01f, false),
      volume_norm(random, {2, 3, 3, 5, 23}, 0.01f, true),
      upsample(random, {2, 3, 2, 1, 7}, {2, 3, 4}, false),
      upsample(random, {1, 1, 3, 2, 5}, {1, 2, 16}, false),
      upsample(random, {2, 2, 1, 3, 21}, {2, 2, 4}, true),
      nearest(random, {2, 3, 2, 1, 7}, {2, 3, 4}),
      nearest(random, {1, 2, 3, 5, 21}, {1, 2, 2}),
      causal(random, {2, 30, 23}, 4),
      causal(random, {1, 2, 8}, 9),
      patches(random, {2, 2, 9, 10, 70}, 29, {3, 4, 7}, {4, 4, 4}, {1, 2, 3}),
      patches(random, {1, 2, 5, 8, 37}, 13, {1, 2, 3}, {2, 3, 2}, {0, 1, 1}),
      patches(random, {1, 2, 5, 9, 64}, 33, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}),
      linear(random, 101, 36, 72, true),
      linear(random, 101, 66, 37, false),
      folded_norm(random, 101, 36, 37),
      rotary(random, {2, 2, 3, 5, 30}),
  };
  bool good = true;
  std::istringstream names(sgmf_cpu_isas());
  for (std::string isa; std::getline(names, isa, ',');) {
    double worst = 0;
    for (Case& c : cases) {
      for (int threads : {1, 3}) {
        const double off = error(c, threads, isa.c_str());
        worst = off <= worst ? worst : off;
      }
    }
    good = good && worst < 2e-6;  // a dense convolution's filter takes 1e-6 without fused products
    std::printf("%s: largest error %.1e of the largest value\n", isa.c_str(), worst);
  }
  return good ? 0 : 1;
}
