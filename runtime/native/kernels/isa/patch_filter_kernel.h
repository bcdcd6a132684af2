// Interface between the patch embedding and its kernels of minimal filtering, one for each
// instruction set.
#pragma once

#include "kernels/isa/patch_embed_kernel.h"

namespace sgmf {

// Tiles of 2x2x2 outputs in one depth row of them, numbered row by row, the last ones reaching
// beyond the result where an extent is odd.
struct PatchBlocks {
  int64_t batch;
  int64_t depth;
  int64_t begin;  // a multiple of `block`
  int64_t end;
};

// For kernels of at most twice the stride along each axis. The weights of an op are packed here.
struct PatchFilterKernel {
  int block;  // tiles that are computed together
  int64_t (*packed_size)(const PatchEmbed& op);
  // Packs weights (channels, input_channels, kernel).
  void (*pack)(const PatchEmbed& op, const float* weights, float* packed);
  int64_t (*scratch)(const PatchEmbed& op);  // floats that `run` needs
  void (*run)(const PatchEmbed& op, const PatchBlocks& blocks, float* scratch);
};

}  // namespace sgmf
