#include "workspace.h"

#include <cstdlib>
#include <limits>
#include <new>

namespace sgmf {
namespace {

constexpr std::size_t alignment = 64;

}  // namespace

void FloatBuffer::Free::operator()(float* memory) const { std::free(memory); }

float* FloatBuffer::at_least(int64_t count) {
  if (count <= capacity_) return memory_.get();
  release();  // before more is taken
  if (count > std::numeric_limits<int64_t>::max() / 8) throw std::bad_alloc();
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes)) throw std::bad_alloc();
  memory_.reset(static_cast<float*>(memory));
  capacity_ = count;
  return memory_.get();
}

void FloatBuffer::release() {
  memory_.reset();
  capacity_ = 0;
}

int64_t Workspace::bytes() const {
  return (image.capacity() + tiles.capacity() + logits.capacity() + sums.capacity()) *
         static_cast<int64_t>(sizeof(float));
}

void Workspace::release() {
  image.release();
  tiles.release();
  logits.release();
  sums.release();
}

}  // namespace sgmf
