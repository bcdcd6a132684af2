// Uninitialised memory in large pages where the system has them: touching it for the first time
// costs more than working on it.
#pragma once

#include <cstdint>
#include <memory>

namespace sgmf {

struct FreePages {
  void operator()(void* memory) const;
};

// Aligned to 64 bytes or more. Throws std::bad_alloc.
void* allocate_pages(int64_t bytes);

template <typename T>
using Pages = std::unique_ptr<T[], FreePages>;

template <typename T>
Pages<T> pages_for(int64_t count) {
  return Pages<T>(static_cast<T*>(allocate_pages(count * static_cast<int64_t>(sizeof(T)))));
}

}  // namespace sgmf
