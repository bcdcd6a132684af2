#include "kernels/scan/selective_scan.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu_isa.h"

namespace sgmf {
namespace {

using Args = sgmf_selective_scan_args;

// Below this many products of token, channel and state a thread costs more than it gains.
constexpr int64_t smallest_share = 1 << 18;

// Shorter chunks cost more in carries than they gain.
constexpr int64_t shortest_chunk = 256;

// How the work is cut into tasks.
struct Plan {
  int64_t panel;   // channels of a task
  int64_t chunks;  // stretches of the sequence
};

// The plan with which `threads` finish soonest; the coarsest of equals.
//
// Cut into k chunks, the work takes two rounds of k - 1 chunks for each panel: the first
// finishes chunk 0 and finds the end states of chunks 1 to k - 2, the second runs chunks 1 to
// k - 1 from their true start.
Plan choose_plan(const Args& args, int lanes, int threads) {
  Plan best{};
  double least = 0;
  for (int64_t panel = panel_channels; panel >= lanes; panel -= lanes) {
    const int64_t panels = args.batch * ((args.channels + panel - 1) / panel);
    for (int64_t k = 1; k <= threads + 1 && (k == 1 || args.length / k >= shortest_chunk); ++k) {
      const int64_t tasks = panels * std::max<int64_t>(1, k - 1);
      const auto rounds = static_cast<double>((tasks + threads - 1) / threads);
      const double width = static_cast<double>(std::min(panel, args.channels));
      const double cost = width * rounds * (k == 1 ? 1.0 : 2.0 / static_cast<double>(k));
      if (!best.panel || cost < 0.95 * least) {
        best = {panel, k};
        least = cost;
      }
    }
  }
  return best;
}

// The states between chunks, for every panel.
class ChunkedScan {
 public:
  ChunkedScan(const Args& args, const ScanKernel& kernel, Plan plan)
      : args_(args),
        kernel_(kernel),
        plan_(plan),
        panels_((args.channels + plan.panel - 1) / plan.panel),
        state_(args.batch * panels_ * plan.chunks * args.states * panel_channels),
        step_sum_(args.batch * panels_ * plan.chunks * panel_channels) {}

  void run(const ParallelFor& parallel) {
    const int64_t all = args_.batch * panels_;
    if (plan_.chunks == 1) {
      parallel(all, [&](std::size_t i) { run_chunk(i, 0, true); });
      return;
    }
    const int64_t inner = plan_.chunks - 1;
    parallel(all * inner, [&](std::size_t i) { run_chunk(i / inner, i % inner, i % inner == 0); });
    for (int64_t panel = 0; panel < all; ++panel) pass_carries(panel);
    parallel(all * inner, [&](std::size_t i) { run_chunk(i / inner, 1 + i % inner, true); });
  }

 private:
  // The state of a span is the one before the chunk and is overwritten by the one after.
  ScanSpan span(int64_t panel, int64_t chunk) {
    const int64_t at = panel * plan_.chunks + chunk;
    ScanSpan span{};
    span.batch = panel / panels_;
    span.channel = panel % panels_ * plan_.panel;
    span.channels = static_cast<int>(std::min(plan_.panel, args_.channels - span.channel));
    span.begin = args_.length * chunk / plan_.chunks;
    span.end = args_.length * (chunk + 1) / plan_.chunks;
    span.state = state_.data() + at * args_.states * panel_channels;
    span.step_sum = step_sum_.data() + at * panel_channels;
    return span;
  }

  void run_chunk(int64_t panel, int64_t chunk, bool write_y) {
    ScanSpan task = span(panel, chunk);
    task.write_y = write_y;
    kernel_.run(args_, task);
  }

  // Turns end states of chunks run from zero into the true state before each chunk.
  void pass_carries(int64_t panel) {
    for (int64_t chunk = 1; chunk < plan_.chunks - 1; ++chunk) {
      kernel_.add_carry(args_, span(panel, chunk), span(panel, chunk - 1).state);
    }
    std::memmove(span(panel, 1).state, span(panel, 0).state,
                 (plan_.chunks - 1) * args_.states * panel_channels * sizeof(float));
  }

  const Args& args_;
  const ScanKernel& kernel_;
  const Plan plan_;
  const int64_t panels_;
  std::vector<float> state_;
  std::vector<float> step_sum_;
};

}  // namespace

int useful_threads(const Args& args, int threads) {
  const int64_t shares = args.batch * args.length * args.channels * args.states / smallest_share;
  return static_cast<int>(std::clamp<int64_t>(shares, 1, threads));
}

const char* selective_scan(const Args& args, int threads, const ParallelFor& parallel,
                           const char* isa) {
  const CpuKernels* kernels = find_kernels(isa);
  if (!kernels) return isa_missing;
  if (!args.batch || !args.length || !args.channels) return nullptr;
  ChunkedScan(args, *kernels->scan, choose_plan(args, kernels->lanes, threads)).run(parallel);
  return nullptr;
}

}  // namespace sgmf

extern "C" {

const char* sgmf_selective_scan(const sgmf_selective_scan_args* args, int32_t threads,
                                const char* isa) {
  if (!args) return "args may not be NULL";
  if (const char* error = sgmf::check(*args)) return error;
  const int count = sgmf::useful_threads(*args, threads > 0 ? threads : sgmf::available_threads());
  try {
    return sgmf::selective_scan(*args, count, sgmf::own_threads(count), isa);
  } catch (...) {
    return "out of memory or threads";
  }
}

const char* sgmf_cpu_isas(void) {
  static const std::string names = [] {
    std::string joined;
    for (const sgmf::CpuKernels* kernels : sgmf::cpu_kernels()) {
      joined += (joined.empty() ? "" : ",") + std::string(kernels->name);
    }
    return joined;
  }();
  return names.c_str();
}

}  // extern "C"
