#include "libsgmf/buffers.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "libsgmf/status.h"

namespace sgmf::embedding {
namespace {

constexpr std::array<ElementType, 10> types = {
    ElementType::uint8,   ElementType::uint16, ElementType::uint32, ElementType::uint64,
    ElementType::int8,    ElementType::int16,  ElementType::int32,  ElementType::int64,
    ElementType::float32, ElementType::float64};

[[noreturn]] void refuse(const std::string& text) {
  throw StatusError(SGMF_INVALID_ARGUMENT, text);
}

ElementType to_type(int32_t type, const std::string& name) {
  if (type < SGMF_UINT8 || type > SGMF_DOUBLE) {
    refuse(name + ".element_type is " + std::to_string(type) +
           "; expected SGMF_UINT8 to SGMF_DOUBLE");
  }
  return types[static_cast<std::size_t>(type - SGMF_UINT8)];
}

// Axes of an array in memory: extents, and strides in elements.
template <std::size_t N>
struct Layout {
  std::array<int64_t, N> extent;
  std::array<int64_t, N> stride;
  std::array<std::size_t, N> fastest_first;
};

template <std::size_t N>
void check_extents(const Layout<N>& layout, const std::string& name) {
  for (const int64_t extent : layout.extent) {
    if (extent < 1)
      refuse(name + " has an extent of " + std::to_string(extent) + "; expected 1 or more");
  }
}

// Elements from the first to the last, both included.
template <std::size_t N>
int64_t span(const Layout<N>& layout, const std::string& name) {
  int64_t last = 0;
  for (std::size_t i = 0; i < N; ++i) {
    int64_t reach = 0;
    const bool too_far = __builtin_mul_overflow(layout.extent[i] - 1, layout.stride[i], &reach) ||
                         __builtin_add_overflow(last, reach, &last);
    if (too_far || last >= std::numeric_limits<int64_t>::max() / 16) {
      refuse(name + " is larger than memory can be; check shape and strides");
    }
  }
  return last + 1;
}

// Strides as given, or those of a dense array if all are zero.
template <std::size_t N>
void set_strides(Layout<N>& layout, const int64_t* given, const std::string& name) {
  std::copy(given, given + N, layout.stride.begin());
  const auto& stride = layout.stride;
  if (std::any_of(stride.begin(), stride.end(), [](int64_t each) { return each < 0; })) {
    refuse(name +
           " has a negative stride; point to the lowest address and say in the affine that "
           "the axis runs the other way");
  }
  if (std::any_of(stride.begin(), stride.end(), [](int64_t each) { return each != 0; })) return;
  int64_t next = 1;
  for (const std::size_t axis : layout.fastest_first) {
    layout.stride[axis] = next;
    if (__builtin_mul_overflow(next, layout.extent[axis], &next)) {
      refuse(name + " is larger than memory can be; check the shape");
    }
  }
}

void check_memory(const void* memory, uint64_t size, int64_t elements, ElementType type,
                  const std::string& name) {
  const auto bytes = static_cast<uint64_t>(element_bytes(type));
  if (!memory) refuse(name + " is NULL; expected memory of the caller");
  if (reinterpret_cast<uintptr_t>(memory) % bytes != 0) {
    refuse(name + " is not aligned to its element type of " + std::to_string(bytes) + " bytes");
  }
  const uint64_t needed = static_cast<uint64_t>(elements) * bytes;
  if (size < needed) {
    refuse(name + " has " + std::to_string(size) + " bytes (size_bytes); shape and strides reach " +
           std::to_string(needed));
  }
}

Layout<4> layout_of(const sgmf_volume& volume) {
  Layout<4> layout{
      {volume.channels, volume.shape[0], volume.shape[1], volume.shape[2]}, {}, {1, 2, 3, 0}};
  check_extents(layout, "volume");
  set_strides(layout, volume.strides, "volume");
  return layout;
}

Layout<3> layout_of(const sgmf_labels& labels, const sgmf_volume& volume) {
  Layout<3> layout{{volume.shape[0], volume.shape[1], volume.shape[2]}, {}, {0, 1, 2}};
  check_extents(layout, "volume");
  set_strides(layout, labels.strides, "labels");
  return layout;
}

}  // namespace

Volume to_volume_without_memory(const sgmf_volume& given) {
  const Layout<4> layout = layout_of(given);
  span(layout, "volume");
  Volume volume;
  volume.voxels = given.voxels;
  volume.type = to_type(given.element_type, "volume");
  volume.channels = given.channels;
  std::copy(given.shape, given.shape + 3, volume.shape.begin());
  volume.strides = layout.stride;
  for (std::size_t i = 0; i < 16; ++i) volume.affine[i / 4][i % 4] = given.affine[i];
  volume.stated_spacing_mm = stated_spacing(given.spacing_mm);
  return volume;
}

Volume to_volume(const sgmf_volume& given) {
  const Volume volume = to_volume_without_memory(given);
  check_memory(given.voxels, given.size_bytes, span(layout_of(given), "volume"), volume.type,
               "volume.voxels");
  return volume;
}

LabelBuffer to_label_buffer_without_memory(const sgmf_labels& given, const sgmf_volume& volume,
                                           uint16_t largest) {
  const ElementType type = to_type(given.element_type, "labels");
  const bool fits = type == ElementType::uint16 || (type == ElementType::uint8 && largest <= 255);
  if (!fits) {
    refuse("labels.element_type is " + std::to_string(given.element_type) +
           "; the largest label is " + std::to_string(largest) + ": use " +
           (largest <= 255 ? "SGMF_UINT8 or " : "") + "SGMF_UINT16");
  }
  const Layout<3> layout = layout_of(given, volume);
  span(layout, "labels");
  return {given.labels, type, layout.stride};
}

LabelBuffer to_label_buffer(const sgmf_labels& given, const sgmf_volume& volume, uint16_t largest) {
  const LabelBuffer labels = to_label_buffer_without_memory(given, volume, largest);
  check_memory(given.labels, given.size_bytes, span(layout_of(given, volume), "labels"),
               labels.type, "labels.labels");
  return labels;
}

}  // namespace sgmf::embedding
