#include "selective_scan.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "cpu_isa.h"

namespace sgmf {
namespace {

using Args = sgmf_selective_scan_args;

// Shorter chunks cost more in carries than they gain.
constexpr int64_t shortest_chunk = 256;

const ScanKernel* choose_kernel(const char* isa) {
  if (!isa) return scan_kernels().front();
  for (const ScanKernel* kernel : scan_kernels()) {
    if (!std::strcmp(kernel->name, isa)) return kernel;
  }
  return nullptr;
}

// Into how many chunks to cut each sequence so that `threads` finish soonest.
//
// Cut into k chunks, the work takes two rounds of k - 1 chunks for each block: the first
// finishes chunk 0 and finds the end states of chunks 1 to k - 2, the second runs chunks 1 to
// k - 1 from their true start.
int64_t choose_chunks(int64_t blocks, int threads, int64_t length) {
  const auto rounds = [&](int64_t tasks) { return static_cast<double>((tasks + threads - 1) / threads); };
  int64_t best = 1;
  double least = rounds(blocks);
  for (int64_t k = 3; k <= threads + 1 && length / k >= shortest_chunk; ++k) {
    const double cost = 2 * rounds(blocks * (k - 1)) / static_cast<double>(k);
    if (cost < 0.95 * least) {
      best = k;
      least = cost;
    }
  }
  return best;
}

// The states between chunks, for every block.
class ChunkedScan {
 public:
  ChunkedScan(const Args& args, const ScanKernel& kernel, int64_t chunks)
      : args_(args), kernel_(kernel), chunks_(chunks),
        blocks_((args.channels + kernel.lanes - 1) / kernel.lanes),
        state_(args.batch * blocks_ * chunks * args.states * kernel.lanes),
        step_sum_(args.batch * blocks_ * chunks * kernel.lanes) {}

  void run(const ParallelFor& parallel) {
    const int64_t all = args_.batch * blocks_;
    if (chunks_ == 1) {
      parallel(all, [&](std::size_t i) { run_chunk(i, 0, true); });
      return;
    }
    const int64_t inner = chunks_ - 1;
    parallel(all * inner, [&](std::size_t i) { run_chunk(i / inner, i % inner, i % inner == 0); });
    for (int64_t block = 0; block < all; ++block) pass_carries(block);
    parallel(all * inner, [&](std::size_t i) { run_chunk(i / inner, 1 + i % inner, true); });
  }

 private:
  float* state(int64_t block, int64_t chunk) {
    return state_.data() + (block * chunks_ + chunk) * args_.states * kernel_.lanes;
  }
  float* step_sum(int64_t block, int64_t chunk) {
    return step_sum_.data() + (block * chunks_ + chunk) * kernel_.lanes;
  }

  // state(block, chunk) holds the state before the chunk and is overwritten by the one after.
  void run_chunk(int64_t block, int64_t chunk, bool write_y) {
    const int64_t begin = args_.length * chunk / chunks_;
    const int64_t end = args_.length * (chunk + 1) / chunks_;
    kernel_.run(args_, {block / blocks_, block % blocks_, begin, end, state(block, chunk),
                        step_sum(block, chunk), write_y});
  }

  // Turns end states of chunks run from zero into the true state before each chunk.
  void pass_carries(int64_t block) {
    for (int64_t chunk = 1; chunk < chunks_ - 1; ++chunk) {
      kernel_.add_carry(args_, block % blocks_, step_sum(block, chunk), state(block, chunk - 1),
                        state(block, chunk));
    }
    std::memmove(state(block, 1), state(block, 0),
                 (chunks_ - 1) * args_.states * kernel_.lanes * sizeof(float));
  }

  const Args& args_;
  const ScanKernel& kernel_;
  const int64_t chunks_;
  const int64_t blocks_;
  std::vector<float> state_;
  std::vector<float> step_sum_;
};

}  // namespace

const char* check(const Args& args) {
  if (args.element_type < SGMF_FLOAT32 || args.element_type > SGMF_BFLOAT16) {
    return "element_type is none of float32, float16 and bfloat16";
  }
  if (args.batch < 0 || args.length < 0 || args.channels < 0) {
    return "batch, length and channels may not be negative";
  }
  if (args.states < 1 || args.states > SGMF_SCAN_MAX_STATES) {
    return "the number of states must lie between 1 and 256";
  }
  if (args.batch && args.length && args.channels &&
      !(args.u && args.delta && args.A && args.B && args.C && args.y)) {
    return "u, delta, A, B, C and y may not be NULL";
  }
  return nullptr;
}

const char* selective_scan(const Args& args, int threads, const ParallelFor& parallel, const char* isa) {
  const ScanKernel* kernel = choose_kernel(isa);
  if (!kernel) return "this processor or this library lacks the instruction set asked for";
  if (!args.batch || !args.length || !args.channels) return nullptr;
  const int64_t blocks = args.batch * ((args.channels + kernel->lanes - 1) / kernel->lanes);
  ChunkedScan(args, *kernel, choose_chunks(blocks, threads, args.length)).run(parallel);
  return nullptr;
}

}  // namespace sgmf

extern "C" {

const char* sgmf_selective_scan(const sgmf_selective_scan_args* args, int32_t threads, const char* isa) {
  if (!args) return "args may not be NULL";
  if (const char* error = sgmf::check(*args)) return error;
  const int count = threads > 0 ? threads : sgmf::available_threads();
  try {
    return sgmf::selective_scan(*args, count, sgmf::own_threads(count), isa);
  } catch (...) {
    return "out of memory or threads";
  }
}

const char* sgmf_cpu_isas(void) {
  static const std::string names = [] {
    std::string joined;
    for (const sgmf::ScanKernel* kernel : sgmf::scan_kernels()) {
      joined += (joined.empty() ? "" : ",") + std::string(kernel->name);
    }
    return joined;
  }();
  return names.c_str();
}

}  // extern "C"
