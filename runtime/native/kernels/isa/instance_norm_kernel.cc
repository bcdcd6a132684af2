// Moments and normalisation of token-major tensors, compiled once for each instruction set.
#include "kernels/isa/instance_norm_kernel.h"

#include "kernels/isa/simd_math.h"

namespace SGMF_ISA {
namespace {

using sgmf::Activation;
using sgmf::Moments;
using sgmf::Normalise;

// Tokens whose sums are float32. Taken from a centre near their mean, the sums lose no more digits
// to a mean far from zero than the tokens themselves have lost; they then go into float64.
constexpr int64_t run_tokens = 64;

// Vectors of channels that are summed together: the additions of one would wait for each other.
constexpr int group = 4;

struct RunSums {
  float centres[group * lane_count];
  float sums[group * lane_count];     // of the distances from the centre
  float squares[group * lane_count];  // of the same
};

// Sums for `size` vectors of channels.
template <int size, typename Lanes>
void sum_run(const float* x, int64_t tokens, int64_t stride, Lanes lanes, RunSums* run) {
  Vec centre[size], sum[size], square[size];
  for (int i = 0; i < size; ++i) centre[i] = sum[i] = square[i] = splat(0.0f);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int i = 0; i < size; ++i) {
      centre[i] = centre[i] + load_lanes(x + t * stride + i * lane_count, lanes);
    }
  }
  const Vec share = splat(1.0f / static_cast<float>(tokens));
  for (int i = 0; i < size; ++i) centre[i] = centre[i] * share;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int i = 0; i < size; ++i) {
      const Vec distance = load_lanes(x + t * stride + i * lane_count, lanes) - centre[i];
      sum[i] = sum[i] + distance;
      square[i] = fma(distance, distance, square[i]);
    }
  }
  for (int i = 0; i < size; ++i) {
    store(run->centres + i * lane_count, centre[i]);
    store(run->sums + i * lane_count, sum[i]);
    store(run->squares + i * lane_count, square[i]);
  }
}

// Adds a run to the moments of the tokens before it, for up to `group` vectors of channels.
// Source: T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm
// for computing sample variances, 1979.
void merge_run(const RunSums& run, int64_t tokens, int64_t channels, int64_t tokens_before,
               double* mean, double* spread) {
  const double n = static_cast<double>(tokens);
  const double all = static_cast<double>(tokens_before + tokens);
  const double share = n / all;
  const double weight = static_cast<double>(tokens_before) * share;
  for (int64_t i = 0; i < channels; ++i) {
    const double step = run.sums[i] / n;
    const double distance = run.centres[i] + step - mean[i];
    mean[i] += distance * share;
    spread[i] += run.squares[i] - run.sums[i] * step + distance * distance * weight;
  }
}

void measure(const float* x, int64_t tokens, int64_t channels, Moments* moments) {
  RunSums sums;
  for (int64_t i = 0; i < channels; ++i) moments->mean[i] = moments->spread[i] = 0.0;
  for (int64_t begin = 0; begin < tokens; begin += run_tokens) {
    const int64_t count = tokens - begin < run_tokens ? tokens - begin : run_tokens;
    const float* run = x + begin * channels;
    int64_t c = 0;
    const auto pass = [&](int64_t width, auto lanes, auto sum_run) {
      for (; c + width <= channels; c += width) {
        sum_run(run + c, count, channels, lanes, &sums);
        merge_run(sums, count, width, begin, moments->mean + c, moments->spread + c);
      }
    };
    pass(group * lane_count, AllLanes(), sum_run<group, AllLanes>);
    pass(lane_count, AllLanes(), sum_run<1, AllLanes>);
    if (c < channels) pass(channels - c, static_cast<int>(channels - c), sum_run<1, int>);
  }
  moments->tokens = tokens;
}

// x Phi(x) = max(x, 0) - a Phi(-a) with a = |x|, and Phi(-a) = exp(-a^2 / 2) times a polynomial.
//
// The polynomial was fitted to erfcx(a / sqrt 2) / 2 on [0, 5.5] by least squares on 4,001
// Chebyshev points in float64, reweighted (Lawson) until the largest error of a Phi(-a), relative
// to max(a, 1), was least: 2.8e-8. Beyond 13 the power is zero to 1e-36.
struct Gelu {
  Vec operator()(Vec x) const {
    const Vec a = min(splat(13.0f), abs(x));
    Vec p = splat(1.1715324035321828e-06f);
    p = fma(p, a, splat(-2.676269104995299e-05f));
    p = fma(p, a, splat(0.00027440497069619596f));
    p = fma(p, a, splat(-0.0016962155932560563f));
    p = fma(p, a, splat(0.007222630549222231f));
    p = fma(p, a, splat(-0.02316344901919365f));
    p = fma(p, a, splat(0.06000789999961853f));
    p = fma(p, a, splat(-0.1318282186985016f));
    p = fma(p, a, splat(0.24968931078910828f));
    p = fma(p, a, splat(-0.3989005982875824f));
    p = fma(p, a, splat(0.4999980628490448f));
    const Vec power = exp2_of_bounded_product(a, a * splat(-0.5f * log2_e));
    return max(splat(0.0f), x) - a * power * p;
  }
};

struct Relu {
  Vec operator()(Vec x) const { return max(splat(0.0f), x); }
};

struct LeakyRelu {
  Vec slope;
  Vec operator()(Vec x) const { return max(x * slope, x); }
};

template <typename Activate>
void normalise_tokens(const Normalise& how, const float* x, int64_t tokens, int64_t channels,
                      float* y, Activate activate) {
  for (int64_t t = 0; t < tokens; ++t, x += channels, y += channels) {
    for_each_vector(channels, [&](int64_t c, auto lanes) {
      const Vec distance = load_lanes(x + c, lanes) - load_lanes(how.centre + c, lanes);
      const Vec scaled =
          fma(distance, load_lanes(how.gain + c, lanes), load_lanes(how.offset + c, lanes));
      store_lanes(y + c, activate(scaled), lanes);
    });
  }
}

void normalise(const Normalise& how, const float* x, int64_t tokens, int64_t channels, float* y) {
  switch (how.activation) {
    case Activation::gelu: return normalise_tokens(how, x, tokens, channels, y, Gelu());
    case Activation::relu: return normalise_tokens(how, x, tokens, channels, y, Relu());
    case Activation::leaky:
      return normalise_tokens(how, x, tokens, channels, y, LeakyRelu{splat(how.slope)});
  }
}

}  // namespace

extern const sgmf::InstanceNormKernel instance_norm_kernel = {measure, normalise};

}  // namespace SGMF_ISA
