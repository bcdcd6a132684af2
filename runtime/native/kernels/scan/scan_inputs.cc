#include "kernels/scan/scan_inputs.h"

#include <stdexcept>

namespace sgmf::scan {
namespace {

constexpr std::array<const char*, input_count> names = {"u", "delta", "A", "B",
                                                        "C", "D",     "z", "delta_bias"};

bool fits(const Shape& found, const Shape& expected) {
  if (found.size() != expected.size()) return false;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] >= 0 && expected[i] >= 0 && found[i] != expected[i]) return false;
  }
  return true;
}

}  // namespace

void check_shapes(const Inputs& in) {
  if (in[U].shape.size() != 3 || in[A].shape.size() != 2) {
    throw std::invalid_argument("SelectiveScan: expected u (B, L, D) and A (D, N); found " +
                                to_string(in[U].shape) + " and " + to_string(in[A].shape));
  }
  const Shape& sequence = in[U].shape;
  const Shape projection = {sequence[0], sequence[1], in[A].shape[1]};
  const Shape decay = {sequence[2], in[A].shape[1]};
  const Shape vector = {sequence[2]};
  const std::array<const Shape*, input_count> expected = {
      &sequence, &sequence, &decay, &projection, &projection, &vector, &sequence, &vector};
  for (std::size_t i = 0; i < input_count; ++i) {
    if (!in[i].given || fits(in[i].shape, *expected[i])) continue;
    throw std::invalid_argument(std::string("SelectiveScan: ") + names[i] + " has shape " +
                                to_string(in[i].shape) + "; u and A ask for " +
                                to_string(*expected[i]));
  }
}

sgmf_selective_scan_args arguments(const Inputs& in, const Settings& settings, void* y) {
  sgmf_selective_scan_args args{};
  args.element_type = settings.element_type;
  args.delta_softplus = settings.delta_softplus;
  args.reverse = settings.reverse;
  args.batch = in[U].shape[0];
  args.length = in[U].shape[1];
  args.channels = in[U].shape[2];
  args.states = in[A].shape[1];
  args.u = in[U].data;
  args.delta = in[DELTA].data;
  args.A = static_cast<const float*>(in[A].data);
  args.B = in[B].data;
  args.C = in[C].data;
  args.D = static_cast<const float*>(in[D].data);
  args.z = in[Z].data;
  args.delta_bias = static_cast<const float*>(in[DELTA_BIAS].data);
  args.y = y;
  return args;
}

}  // namespace sgmf::scan
