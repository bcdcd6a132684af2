// Large blocks of memory that hold no more pages than were in use at once.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace sgmf {

// Freed blocks wait for another of their size. Where none is left for a size, the pages of the
// block that has waited longest move there: neither are they given back to the system and cleared
// again, nor are holes left between blocks. When nothing is in use any more, all pages go back.
// Blocks smaller than a large page are the C library's. For Linux; may be used from several
// threads.
class PagePool {
 public:
  // Aligned to 64 bytes, not cleared; nullptr for 0. Throws std::bad_alloc.
  void* allocate(std::size_t bytes);
  void free(void* memory);

 private:
  struct Span {
    char* begin;
    std::size_t bytes;
  };
  struct Block {
    std::size_t bytes;
    std::vector<Span> body;  // of large pages; the system moves no more than a span at once
    Span tail;               // the rest, which is not moved
  };
  using Place = std::pair<char* const, Block>;

  Place make(std::size_t bytes);
  std::vector<Span> fill(char* begin, std::size_t bytes);
  void release_spare();

  std::mutex mutex_;
  std::map<char*, Block> used_;
  std::list<Place> spare_;  // that has waited longest first
  std::size_t small_blocks_ = 0;
};

}  // namespace sgmf
