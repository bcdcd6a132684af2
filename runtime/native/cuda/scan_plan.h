// Layout of a scan on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/interface/selective_scan.h"

namespace sgmf::cuda {

constexpr int warp_threads = 32;
constexpr int most_threads = 128;  // of a block
constexpr int tile_tokens = 16;    // staged in shared memory at once

// Full blocks that one multiprocessor holds, limited by 100 KiB of shared memory with 16 states,
// and by up to 96 registers for each thread.
constexpr int resident_blocks = 5;

struct ScanPlan {
  int group;         // states that one thread holds in registers: 4, 8 or 16
  int lanes;         // threads of one warp that share a channel: a power of two
  int lane_stride;   // floats from one lane's B and C to the next in shared memory
  int token_stride;  // and from one token's to the next
  int panel;         // channels of a block
  int threads;       // of a block: panel * lanes
  int64_t panels;    // blocks side by side
  int64_t chunk;     // tokens of a block
  int64_t chunks;    // blocks along the sequence
};

// The plan that fills `multiprocessors` with scratch memory of `workspace_bytes` at most.
// The sizes are checked and none is zero.
ScanPlan plan_scan(const sgmf_selective_scan_args& args, int multiprocessors,
                   std::size_t workspace_bytes);

// Scratch memory that a plan needs: the state and the sum of steps of every chunk.
std::size_t workspace_bytes(const sgmf_selective_scan_args& args, const ScanPlan& plan);

}  // namespace sgmf::cuda
