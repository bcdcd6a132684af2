// Tensors as runtimes hand them to ops: data and shape, nothing owned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sgmf {

using Shape = std::vector<int64_t>;

struct Tensor {
  bool given = false;
  const void* data = nullptr;
  Shape shape;
};

inline std::string to_string(const Shape& shape) {
  std::string text;
  for (int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + text + ")";
}

inline int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

}  // namespace sgmf
