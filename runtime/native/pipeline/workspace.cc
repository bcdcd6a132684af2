#include "pipeline/workspace.h"

#include <limits>
#include <new>

namespace sgmf {

float* FloatBuffer::at_least(int64_t count) {
  if (count <= capacity_) return memory_.get();
  release();  // before more is taken
  if (count > std::numeric_limits<int64_t>::max() / 8) throw std::bad_alloc();
  memory_ = pages_for<float>(count);
  capacity_ = count;
  return memory_.get();
}

void FloatBuffer::release() {
  memory_.reset();
  capacity_ = 0;
}

int64_t Workspace::bytes() const {
  return (image.capacity() + tiles.capacity() + logits.capacity() + sums.capacity() +
          kept.capacity()) *
         static_cast<int64_t>(sizeof(float));
}

void Workspace::release() {
  image.release();
  tiles.release();
  logits.release();
  sums.release();
  kept.release();
}

}  // namespace sgmf
