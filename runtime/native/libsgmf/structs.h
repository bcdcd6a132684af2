// Structs that cross the boundary, for callers built against any version of the header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "libsgmf/status.h"
#include "sgmf.h"

namespace sgmf::embedding {

// Size of each struct in the first version of the header: never changes, whatever is added.
template <typename T>
constexpr uint32_t first_size = 0;
template <>
inline constexpr uint32_t first_size<sgmf_open_options> = 56;
template <>
inline constexpr uint32_t first_size<sgmf_info> = 128;
template <>
inline constexpr uint32_t first_size<sgmf_input> = 16;
template <>
inline constexpr uint32_t first_size<sgmf_label> = 16;
template <>
inline constexpr uint32_t first_size<sgmf_region> = 32;
template <>
inline constexpr uint32_t first_size<sgmf_volume> = 216;
template <>
inline constexpr uint32_t first_size<sgmf_labels> = 48;
template <>
inline constexpr uint32_t first_size<sgmf_run_options> = 24;
template <>
inline constexpr uint32_t first_size<sgmf_statistics> = 72;

// The caller's struct_size, checked.
template <typename T>
uint32_t checked_size(const T* given, const char* name) {
  static_assert(first_size<T> > 0 && sizeof(T) >= first_size<T>);
  if (!given) throw StatusError(SGMF_INVALID_ARGUMENT, std::string(name) + " is NULL");
  uint32_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < first_size<T>) {
    throw StatusError(SGMF_ABI_MISMATCH, std::string(name) + "->struct_size is " +
                                             std::to_string(size) + "; expected sizeof(" + name +
                                             "), at least " + std::to_string(first_size<T>));
  }
  return size;
}

// A copy of the caller's struct. Members that an older header lacks are zero; members that only a
// newer one has must be zero, since they would be ignored.
template <typename T>
T read_struct(const T* given, const char* name) {
  const uint32_t size = checked_size(given, name);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] == 0) continue;
    throw StatusError(SGMF_ABI_MISMATCH,
                      std::string(name) +
                          " sets a member that this version of libsgmf does not know; leave it at "
                          "zero or install a newer libsgmf");
  }
  T copy{};
  std::memcpy(&copy, given, std::min<std::size_t>(size, sizeof(T)));
  return copy;
}

// Fills the caller's struct as far as it goes; members that only a newer header has become zero.
template <typename T>
void write_struct(T* target, T source, const char* name) {
  const uint32_t size = checked_size(target, name);
  source.struct_size = size;
  const std::size_t shared = std::min<std::size_t>(size, sizeof(T));
  std::memcpy(target, &source, shared);
  std::memset(reinterpret_cast<unsigned char*>(target) + shared, 0, size - shared);
}

}  // namespace sgmf::embedding
