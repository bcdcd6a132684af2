#include "kernels/interface/selective_scan_gradient.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cpu_isa.h"
#include "kernels/scan/selective_scan.h"

namespace sgmf {
namespace {

using Args = sgmf_selective_scan_gradient_args;
using Floats = std::vector<float>;

const char* check_gradient(const Args& args) {
  const sgmf_selective_scan_args& scan = args.scan;
  if (scan.element_type != SGMF_FLOAT32) return "gradients are computed in float32 alone";
  sgmf_selective_scan_args inputs = scan;
  inputs.y = args.grad_u;  // checked, not written to
  if (const char* error = check(inputs)) return error;
  if (!scan.batch || !scan.length || !scan.channels) return nullptr;
  if (!(args.grad_y && args.grad_delta && args.grad_A && args.grad_B && args.grad_C)) {
    return "grad_y and the gradients of u, delta, A, B and C may not be NULL";
  }
  if (!scan.D != !args.grad_D || !scan.z != !args.grad_z ||
      !scan.delta_bias != !args.grad_delta_bias) {
    return "D, z and delta_bias have a gradient where they are given, and none where not";
  }
  return nullptr;
}

// The work, cut into shares of one batch entry and some of its panels.
//
// Each share adds up the gradients of B and C by itself, since they are sums over all channels;
// the shares' are added in their order. Panels get narrower where there are more threads than
// panels; the sequence is not cut, which takes at least as many channels as lanes for a thread.
class ScanGradient {
 public:
  ScanGradient(const Args& args, const CpuKernels& kernels, int threads)
      : args_(args),
        scan_(args.scan),
        kernels_(kernels),
        chunks_((scan_.length + gradient_tokens - 1) / gradient_tokens) {
    const int64_t wanted = (threads + scan_.batch - 1) / scan_.batch;
    const int64_t lanes = kernels.lanes;
    const int64_t even = (scan_.channels + wanted - 1) / wanted;
    width_ = std::min<int64_t>(panel_channels, (even + lanes - 1) / lanes * lanes);
    panels_ = (scan_.channels + width_ - 1) / width_;
    parts_ = std::min(wanted, panels_);
    sums_ = std::vector<PanelSums>(scan_.batch * panels_);
    projections_ = std::vector<Floats>(scan_.batch * parts_);
  }

  void run(const ParallelFor& parallel) {
    parallel(scan_.batch * parts_, [&](std::size_t share) { run_share(share); });
    parallel(scan_.batch, [&](std::size_t batch) { add_projections(batch); });
    store_sums();
  }

 private:
  int64_t projection_size() const { return scan_.length * scan_.states; }
  int64_t state_size() const { return scan_.states * panel_channels; }

  void run_share(int64_t share) {
    const int64_t batch = share / parts_, part = share % parts_;
    Floats& gradients = projections_[share];
    gradients.assign(2 * projection_size(), 0.0f);
    Floats states(chunks_ * state_size());
    Floats adjoint(state_size());
    Floats scratch(kernels_.scan_gradient->scratch(scan_.states) + 16);
    for (int64_t panel = panels_ * part / parts_; panel < panels_ * (part + 1) / parts_; ++panel) {
      find_states(batch, panel, states.data());
      std::fill(adjoint.begin(), adjoint.end(), 0.0f);
      for (int64_t chunk = chunks_ - 1; chunk >= 0; --chunk) {
        GradientSpan span{};
        span.batch = batch;
        span.channel = panel * width_;
        span.channels = width_of(panel);
        span.begin = chunk * gradient_tokens;
        span.end = end_of(chunk);
        span.state = states.data() + chunk * state_size();
        span.adjoint = adjoint.data();
        span.grad_b = gradients.data();
        span.grad_c = gradients.data() + projection_size();
        span.sums = &sums_[batch * panels_ + panel];
        span.scratch = aligned(scratch.data());
        kernels_.scan_gradient->run(args_, span);
      }
    }
  }

  static float* aligned(float* p) {
    return reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(p) + 63) / 64 * 64);
  }

  int width_of(int64_t panel) const {
    return static_cast<int>(std::min(width_, scan_.channels - panel * width_));
  }

  int64_t end_of(int64_t chunk) const {
    return std::min<int64_t>((chunk + 1) * gradient_tokens, scan_.length);
  }

  // The states before each chunk, by the scan itself.
  void find_states(int64_t batch, int64_t panel, float* states) const {
    float step_sum[panel_channels] = {};
    std::fill_n(states, state_size(), 0.0f);
    for (int64_t chunk = 0; chunk + 1 < chunks_; ++chunk) {
      float* following = states + (chunk + 1) * state_size();
      std::copy_n(states + chunk * state_size(), state_size(), following);
      ScanSpan span{};
      span.batch = batch;
      span.channel = panel * width_;
      span.channels = width_of(panel);
      span.begin = chunk * gradient_tokens;
      span.end = end_of(chunk);
      span.state = following;
      span.step_sum = step_sum;
      kernels_.scan->run(scan_, span);
    }
  }

  void add_projections(int64_t batch) {
    float* const targets[] = {args_.grad_B + batch * projection_size(),
                              args_.grad_C + batch * projection_size()};
    for (int which = 0; which < 2; ++which) {
      std::fill_n(targets[which], projection_size(), 0.0f);
      for (int64_t part = 0; part < parts_; ++part) {
        const float* share = projections_[batch * parts_ + part].data() + which * projection_size();
        for (int64_t i = 0; i < projection_size(); ++i) targets[which][i] += share[i];
      }
    }
  }

  void store_sums() const {
    for (int64_t channel = 0; channel < scan_.channels; ++channel) {
      const int64_t panel = channel / width_, i = channel % width_;
      const auto total = [&](auto part) {
        double sum = 0;
        for (int64_t batch = 0; batch < scan_.batch; ++batch) {
          sum += part(sums_[batch * panels_ + panel]);
        }
        return static_cast<float>(sum);
      };
      for (int64_t n = 0; n < scan_.states; ++n) {
        args_.grad_A[channel * scan_.states + n] =
            total([&](const PanelSums& sums) { return sums.a[n * panel_channels + i]; });
      }
      if (args_.grad_D) {
        args_.grad_D[channel] = total([&](const PanelSums& sums) { return sums.d[i]; });
      }
      if (args_.grad_delta_bias) {
        args_.grad_delta_bias[channel] =
            total([&](const PanelSums& sums) { return sums.delta_bias[i]; });
      }
    }
  }

  const Args& args_;
  const sgmf_selective_scan_args& scan_;
  const CpuKernels& kernels_;
  const int64_t chunks_;
  int64_t width_;   // channels of a panel
  int64_t panels_;  // of a batch entry
  int64_t parts_;   // shares of a batch entry
  std::vector<PanelSums> sums_;
  std::vector<Floats> projections_;  // of each share: gradients of B, then of C
};

// Without tokens the sums are empty.
void clear_parameters(const Args& args) {
  const int64_t channels = args.scan.channels;
  if (args.grad_A) std::fill_n(args.grad_A, channels * args.scan.states, 0.0f);
  if (args.grad_D) std::fill_n(args.grad_D, channels, 0.0f);
  if (args.grad_delta_bias) std::fill_n(args.grad_delta_bias, channels, 0.0f);
}

}  // namespace
}  // namespace sgmf

extern "C" const char* sgmf_selective_scan_gradient(const sgmf_selective_scan_gradient_args* args,
                                                    int32_t threads, const char* isa) {
  if (!args) return "args may not be NULL";
  if (const char* error = sgmf::check_gradient(*args)) return error;
  const sgmf::CpuKernels* kernels = sgmf::find_kernels(isa);
  if (!kernels) return sgmf::isa_missing;
  const sgmf_selective_scan_args& scan = args->scan;
  if (!scan.batch || !scan.length || !scan.channels) {
    sgmf::clear_parameters(*args);
    return nullptr;
  }
  const int count = sgmf::useful_threads(scan, threads > 0 ? threads : sgmf::available_threads());
  try {
    sgmf::ScanGradient(*args, *kernels, count).run(sgmf::own_threads(count));
  } catch (...) {
    return sgmf::out_of_memory;
  }
  return nullptr;
}
