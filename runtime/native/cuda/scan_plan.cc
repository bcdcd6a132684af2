#include "cuda/scan_plan.h"

#include <algorithm>

namespace sgmf::cuda {
namespace {

using Args = sgmf_selective_scan_args;

// Warps that fill one multiprocessor, and the fewest that are worth having: below that, more
// threads for each channel cost less than idle units.
constexpr int64_t full_warps = resident_blocks * most_threads / warp_threads;
constexpr int64_t least_warps = 8;

// Of 32, 64 and 128 the fastest on an H200 for six sizes of published networks, or as fast.
constexpr int64_t shortest_chunk = 32;

constexpr int most_lanes = warp_threads;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int lanes_for(int64_t states, int group) {
  int lanes = 1;
  while (lanes * group < states) lanes *= 2;
  return lanes;
}

// Panels of nearly equal width whose threads are whole warps.
ScanPlan uncut_plan(const Args& args, int group) {
  ScanPlan plan{};
  plan.group = group;
  plan.lanes = lanes_for(args.states, group);
  // Eight lanes that read four states each at once then meet in no bank.
  plan.lane_stride = 2 * group + 4;
  plan.token_stride = plan.lane_stride * plan.lanes;
  plan.panels = divide_up(args.channels, most_threads / plan.lanes);
  const int64_t granule = warp_threads / plan.lanes;
  const int64_t width = divide_up(args.channels, plan.panels);
  plan.panel = static_cast<int>(divide_up(width, granule) * granule);
  plan.threads = plan.panel * plan.lanes;
  plan.chunk = args.length;
  plan.chunks = 1;
  return plan;
}

int64_t warps(const Args& args, const ScanPlan& plan) {
  return args.batch * plan.panels * plan.threads / warp_threads;
}

int64_t most_chunks(const Args& args) { return std::max<int64_t>(1, args.length / shortest_chunk); }

// The most states for each thread, fewer where that would leave the device idle.
ScanPlan choose_group(const Args& args, int multiprocessors) {
  int group = args.states <= 4 ? 4 : args.states <= 8 ? 8 : 16;
  for (;; group /= 2) {
    const ScanPlan plan = uncut_plan(args, group);
    const bool smallest = group == 4 || 2 * plan.lanes > most_lanes;
    if (smallest || warps(args, plan) * most_chunks(args) >= least_warps * multiprocessors) {
      return plan;
    }
  }
}

std::size_t bytes_of_a_chunk(const Args& args) {
  return sizeof(float) * static_cast<std::size_t>(args.batch * args.channels * (args.states + 1));
}

}  // namespace

ScanPlan plan_scan(const Args& args, int multiprocessors, std::size_t workspace_bytes) {
  ScanPlan plan = choose_group(args, multiprocessors);
  // Whole blocks, and no more than run at once: a few more would take as long again.
  const int64_t resident = full_warps / (plan.threads / warp_threads) * multiprocessors;
  const int64_t wanted = resident / (args.batch * plan.panels);
  const auto held = static_cast<int64_t>(workspace_bytes / bytes_of_a_chunk(args));
  const int64_t chunks = std::min({wanted, held, most_chunks(args)});
  // All chunks but the last run twice, so that two of them gain nothing.
  if (chunks < 3) return plan;
  plan.chunk = divide_up(divide_up(args.length, chunks), tile_tokens) * tile_tokens;
  plan.chunks = divide_up(args.length, plan.chunk);
  return plan;
}

std::size_t workspace_bytes(const Args& args, const ScanPlan& plan) {
  if (plan.chunks == 1) return 0;
  return bytes_of_a_chunk(args) * static_cast<std::size_t>(plan.chunks);
}

}  // namespace sgmf::cuda
