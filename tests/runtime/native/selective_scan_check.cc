// Checks the compiled library through its C header, on whatever processor this runs: every
// instruction set, element type and thread count against the definition in double precision.
// Prints one line for each instruction set; exits with 1 where a result is off.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/interface/selective_scan.h"

namespace {

using Floats = std::vector<float>;

struct Case {
  int64_t batch, length, channels, states;
  bool reverse, optional;
};

struct Inputs {
  Floats u, delta, A, B, C, D, z, delta_bias;
};

float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

// Values of seven significant bits between 2^-10 and 4: exact in every element type.
Floats draw(std::mt19937& random, int64_t count, float low, float high) {
  Floats values(count);
  std::uniform_real_distribution<float> uniform(low, high);
  for (float& value : values) {
    value = from_bits(to_bits(uniform(random)) & 0xfffe0000u);
    if (std::fabs(value) < 0x1p-10f) value = 0.0f;
  }
  return values;
}

uint16_t store(float x, int type) {
  const uint32_t bits = to_bits(x);
  if (type == SGMF_BFLOAT16) return static_cast<uint16_t>(bits >> 16);
  if (x == 0.0f) return 0;
  return static_cast<uint16_t>((bits >> 16 & 0x8000u) |
                               (((bits & 0x7fffffffu) - 0x38000000u) >> 13));
}

float load(uint16_t stored, int type) {
  if (type == SGMF_BFLOAT16) return from_bits(static_cast<uint32_t>(stored) << 16);
  const int exponent = (stored >> 10) & 31;
  const int significand = (stored & 0x3ff) | (exponent ? 0x400 : 0);
  const float magnitude = std::ldexp(static_cast<float>(significand), std::max(1, exponent) - 25);
  return stored & 0x8000u ? -magnitude : magnitude;
}

std::vector<double> expected(const Case& c, const Inputs& in) {
  std::vector<double> y(c.batch * c.length * c.channels);
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t d = 0; d < c.channels; ++d) {
      std::vector<double> h(c.states);
      for (int64_t i = 0; i < c.length; ++i) {
        const int64_t row = b * c.length + (c.reverse ? c.length - 1 - i : i);
        const int64_t at = row * c.channels + d;
        double step = in.delta[at] + (c.optional ? in.delta_bias[d] : 0.0);
        step = std::max(step, 0.0) + std::log1p(std::exp(-std::fabs(step)));
        double sum = c.optional ? static_cast<double>(in.D[d]) * in.u[at] : 0.0;
        for (int64_t n = 0; n < c.states; ++n) {
          h[n] = std::exp(step * in.A[d * c.states + n]) * h[n] +
                 step * in.u[at] * in.B[row * c.states + n];
          sum += h[n] * in.C[row * c.states + n];
        }
        y[at] = c.optional ? sum * in.z[at] / (1 + std::exp(-static_cast<double>(in.z[at]))) : sum;
      }
    }
  }
  return y;
}

std::vector<uint16_t> shorten(const Floats& values, int type) {
  std::vector<uint16_t> stored(values.size());
  std::transform(values.begin(), values.end(), stored.begin(),
                 [&](float x) { return store(x, type); });
  return stored;
}

Floats run(const Case& c, const Inputs& in, int type, int threads, const char* isa) {
  sgmf_selective_scan_args args{};
  args.element_type = type;
  args.delta_softplus = 1;
  args.reverse = c.reverse;
  args.batch = c.batch;
  args.length = c.length;
  args.channels = c.channels;
  args.states = c.states;
  args.A = in.A.data();
  args.D = c.optional ? in.D.data() : nullptr;
  args.delta_bias = c.optional ? in.delta_bias.data() : nullptr;
  const auto call = [&](const auto& u, const auto& delta, const auto& B, const auto& C,
                        const auto& z, auto& y) {
    args.u = u.data();
    args.delta = delta.data();
    args.B = B.data();
    args.C = C.data();
    args.z = c.optional ? z.data() : nullptr;
    args.y = y.data();
    if (const char* error = sgmf_selective_scan(&args, threads, isa))
      std::printf("refused: %s\n", error);
  };
  Floats y(in.u.size(), NAN);
  if (type == SGMF_FLOAT32) {
    call(in.u, in.delta, in.B, in.C, in.z, y);
    return y;
  }
  std::vector<uint16_t> stored(y.size());
  call(shorten(in.u, type), shorten(in.delta, type), shorten(in.B, type), shorten(in.C, type),
       shorten(in.z, type), stored);
  std::transform(stored.begin(), stored.end(), y.begin(),
                 [&](uint16_t x) { return load(x, type); });
  return y;
}

// Largest error, relative to the largest value and beyond what rounding to the type explains.
double error(const Floats& found, const std::vector<double>& exact, int type) {
  const double half_unit = type == SGMF_FLOAT32 ? 0 : type == SGMF_FLOAT16 ? 0x1p-11 : 0x1p-8;
  double largest = 1e-30;
  double worst = 0;
  for (double y : exact) largest = std::max(largest, std::fabs(y));
  for (size_t i = 0; i < exact.size(); ++i) {
    const double off = std::fabs(found[i] - exact[i]) - half_unit * std::fabs(exact[i]);
    worst = off <= worst * largest ? worst : off / largest;  // NaN becomes the worst
  }
  return worst;
}

}  // namespace

int main() {
  const Case cases[] = {{1, 1, 1, 1, false, false},   {2, 33, 17, 4, true, true},
                        {1, 100, 72, 8, false, true}, {1, 31, 5, 20, true, false},
                        {3, 50, 66, 3, false, true},  {1, 20, 9, 256, false, true},
                        {1, 3000, 9, 40, true, true}};
  bool good = true;
  std::istringstream names(sgmf_cpu_isas());
  for (std::string isa; std::getline(names, isa, ',');) {
    double worst = 0;
    for (const Case& c : cases) {
      std::mt19937 random(static_cast<unsigned>(c.length * 1000 + c.channels));
      const int64_t tokens = c.batch * c.length;
      const Inputs in = {
          draw(random, tokens * c.channels, -2, 2),        draw(random, tokens * c.channels, -2, 2),
          draw(random, c.channels * c.states, -4, -0.03f), draw(random, tokens * c.states, -2, 2),
          draw(random, tokens * c.states, -2, 2),          draw(random, c.channels, -2, 2),
          draw(random, tokens * c.channels, -2, 2),        draw(random, c.channels, -2, 2)};
      const std::vector<double> exact = expected(c, in);
      for (int type : {SGMF_FLOAT32, SGMF_FLOAT16, SGMF_BFLOAT16}) {
        for (int threads : {1, 2, 7}) {
          const double off = error(run(c, in, type, threads, isa.c_str()), exact, type);
          worst = off <= worst ? worst : off;
        }
      }
    }
    good = good && worst < 3e-6;
    std::printf("%s: largest error %.1e of the largest value\n", isa.c_str(), worst);
  }
  return good ? 0 : 1;
}
