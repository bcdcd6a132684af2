#include "system/page_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <new>

namespace sgmf {
namespace {

constexpr std::size_t large_page = std::size_t{1} << 21;
constexpr std::size_t cache_line = 64;
constexpr int access = PROT_READ | PROT_WRITE;
constexpr int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

std::size_t whole_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t rounded = (bytes + page - 1) / page * page;
  return rounded < bytes ? throw std::bad_alloc() : rounded;
}

// Addresses that begin with a large page, and no pages yet.
char* map(std::size_t bytes) {
  const std::size_t size = bytes + large_page;
  void* mapped = size < bytes ? MAP_FAILED : mmap(nullptr, size, access, kind, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  char* first = static_cast<char*>(mapped);
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(first) % large_page;
  if (before) munmap(first, before);
  munmap(first + before + bytes, large_page - before);
  // Advice: without large pages all works as well.
  madvise(first + before, bytes, MADV_HUGEPAGE);
  return first + before;
}

bool move(char* from, std::size_t bytes, char* to) {
  return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
}

}  // namespace

void* PagePool::allocate(std::size_t bytes) {
  if (!bytes) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes < large_page) {
    void* memory = nullptr;
    if (posix_memalign(&memory, cache_line, bytes)) throw std::bad_alloc();
    ++small_blocks_;
    return memory;
  }
  const std::size_t size = whole_pages(bytes);
  const auto same = std::find_if(spare_.rbegin(), spare_.rend(),
                                 [&](const Place& place) { return place.second.bytes == size; });
  if (same == spare_.rend()) return used_.insert(make(size)).first->first;
  char* begin = same->first;
  used_.insert(std::move(*same));
  spare_.erase(std::prev(same.base()));
  return begin;
}

PagePool::Place PagePool::make(std::size_t bytes) {
  char* begin = map(bytes);
  const std::size_t body = bytes / large_page * large_page;
  return {begin, {bytes, fill(begin, body), {begin + body, bytes - body}}};
}

// Moves spare pages to these addresses, as far as there are any.
std::vector<PagePool::Span> PagePool::fill(char* begin, std::size_t bytes) {
  std::vector<Span> filled;
  while (bytes && !spare_.empty()) {
    Block& oldest = spare_.front().second;
    Span& from = oldest.body.back();
    const std::size_t count = std::min(from.bytes, bytes);
    if (!move(from.begin + from.bytes - count, count, begin)) {
      // The system has no more mappings to give, and may have dropped the one that was to be moved
      // to.
      if (mmap(begin, bytes, access, kind | MAP_FIXED, -1, 0) == MAP_FAILED) throw std::bad_alloc();
      break;
    }
    filled.push_back({begin, count});
    begin += count;
    bytes -= count;
    oldest.bytes = 0;  // no longer a block to be had as it is
    from.bytes -= count;
    if (!from.bytes) oldest.body.pop_back();
    if (!oldest.body.empty()) continue;
    if (oldest.tail.bytes) munmap(oldest.tail.begin, oldest.tail.bytes);
    spare_.pop_front();
  }
  if (bytes) filled.push_back({begin, bytes});
  return filled;
}

void PagePool::free(void* memory) {
  if (!memory) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = used_.find(static_cast<char*>(memory));
  if (found == used_.end()) {
    std::free(memory);
    --small_blocks_;
  } else {
    spare_.push_back(std::move(*found));
    used_.erase(found);
  }
  if (used_.empty() && !small_blocks_) release_spare();
}

void PagePool::release_spare() {
  for (const Place& place : spare_) {
    for (const Span& span : place.second.body) munmap(span.begin, span.bytes);
    if (place.second.tail.bytes) munmap(place.second.tail.begin, place.second.tail.bytes);
  }
  spare_.clear();
}

}  // namespace sgmf
