// Memory that is used again for the next scan: pages that are already touched are much faster.
#pragma once

#include <cstdint>

#include "pipeline/pages.h"

namespace sgmf {

// Uninitialised float32 memory that grows only if it must.
class FloatBuffer {
 public:
  // At least `count` numbers of any value. The previous content is lost.
  float* at_least(int64_t count);
  int64_t capacity() const { return capacity_; }
  void release();

 private:
  Pages<float> memory_;
  int64_t capacity_ = 0;
};

struct Workspace {
  FloatBuffer image;
  FloatBuffer tiles;
  FloatBuffer logits;
  FloatBuffer sums;
  FloatBuffer kept;

  int64_t bytes() const;
  void release();
};

}  // namespace sgmf
