#include "kernels/volumes/label_rows.h"

#include <algorithm>

#include "kernels/finite.h"
#include "kernels/vectorised.h"

namespace sgmf {
namespace {

// Voxels that are looked at in one channel after the other: their state stays in the nearest cache.
constexpr int64_t block = 1024;

// Labels of a block and what decides about them.
struct Block {
  float best[block];
  uint32_t label[block];
  uint32_t bits[block];  // the largest
};

SGMF_VECTORISED void take_first(const float* logits, int64_t count, Block& state) {
  for (int64_t i = 0; i < count; ++i) {
    state.best[i] = logits[i];
    state.label[i] = 0;
    state.bits[i] = magnitude_bits(logits[i]);
  }
}

SGMF_VECTORISED void take_larger(const float* logits, int64_t count, uint32_t channel,
                                 Block& state) {
  for (int64_t i = 0; i < count; ++i) {
    const bool larger = logits[i] > state.best[i];
    state.best[i] = larger ? logits[i] : state.best[i];
    state.label[i] = larger ? channel : state.label[i];
    state.bits[i] = std::max(state.bits[i], magnitude_bits(logits[i]));
  }
}

SGMF_VECTORISED void clear(int64_t count, Block& state) {
  for (int64_t i = 0; i < count; ++i) state.label[i] = state.bits[i] = 0;
}

SGMF_VECTORISED void paint_positive(const float* logits, int64_t count, uint32_t value,
                                    Block& state) {
  for (int64_t i = 0; i < count; ++i) {
    state.label[i] = logits[i] > 0 ? value : state.label[i];
    state.bits[i] = std::max(state.bits[i], magnitude_bits(logits[i]));
  }
}

// Stores the labels of a block; returns the largest bits.
SGMF_VECTORISED uint32_t finish(const Block& state, int64_t count, uint16_t* labels) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    labels[i] = static_cast<uint16_t>(state.label[i]);
    largest = std::max(largest, state.bits[i]);
  }
  return largest;
}

uint32_t label_block(const LogitRows& logits, const float* first, int64_t count, Block& state,
                     uint16_t* labels) {
  if (logits.regions) {
    clear(count, state);
  } else {
    take_first(first, count, state);
  }
  for (int64_t k = logits.regions ? 0 : 1; k < logits.channels; ++k) {
    const float* row = first + k * logits.channel_stride;
    if (logits.regions) {
      paint_positive(row, count, logits.regions[k], state);
    } else {
      take_larger(row, count, static_cast<uint32_t>(k), state);
    }
  }
  return finish(state, count, labels);
}

}  // namespace

bool label_rows(const LogitRows& logits, uint16_t* labels) {
  Block state;
  uint32_t largest = 0;
  for (int64_t row = 0; row < logits.count;) {
    // Rows that follow each other in memory are one.
    const float* first = logits.rows[row];
    int64_t size = logits.width;
    while (++row < logits.count && logits.rows[row] == first + size) size += logits.width;
    for (int64_t begin = 0; begin < size; begin += block) {
      const int64_t count = std::min(block, size - begin);
      largest = std::max(largest, label_block(logits, first + begin, count, state, labels + begin));
    }
    labels += size;
  }
  return is_finite_magnitude(largest);
}

}  // namespace sgmf
