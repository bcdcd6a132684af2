#include "pipeline/pages.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sgmf {
namespace {

constexpr int64_t cache_line = 64;
constexpr int64_t large_page = int64_t{1} << 21;

}  // namespace

void FreePages::operator()(void* memory) const { std::free(memory); }

void* allocate_pages(int64_t bytes) {
  const int64_t alignment = bytes >= 2 * large_page ? large_page : cache_line;
  void* memory = nullptr;
  const std::size_t size = static_cast<std::size_t>(std::max<int64_t>(bytes, 1));
  if (bytes < 0 || posix_memalign(&memory, static_cast<std::size_t>(alignment), size)) {
    throw std::bad_alloc();
  }
#if defined(__linux__)
  // Advice: without large pages all works as well.
  if (alignment == large_page) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace sgmf
