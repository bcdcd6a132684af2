// One channel of a scan along the network's axes, as float32, for any type and order.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/geometry/orientation.h"
#include "pipeline/geometry/volume.h"

namespace sgmf {

struct ChannelView {
  const char* first = nullptr;  // of voxel (0, 0, 0)
  ElementType type = ElementType::float32;
  Triple shape{};
  Triple strides{};  // in elements

  // Part of this channel, as a channel.
  ChannelView cut(const Box& box) const;

  // Copies the voxels inside a box, C order, each rounded to float32.
  void read(const Box& box, float* out) const;
};

// Every channel of a volume.
std::vector<ChannelView> channel_views(const Volume& volume, const Reorientation& reorientation);

// A label map on the grid of a scan of that shape.
ChannelView view(const LabelBuffer& labels, const Triple& stored_shape, const Reorientation& by);

// Calls f with a pointer to the first voxel in its own type.
template <typename F>
auto with_type(const ChannelView& view, F f) {
  switch (view.type) {
    case ElementType::int8: return f(reinterpret_cast<const int8_t*>(view.first));
    case ElementType::uint8: return f(reinterpret_cast<const uint8_t*>(view.first));
    case ElementType::int16: return f(reinterpret_cast<const int16_t*>(view.first));
    case ElementType::uint16: return f(reinterpret_cast<const uint16_t*>(view.first));
    case ElementType::int32: return f(reinterpret_cast<const int32_t*>(view.first));
    case ElementType::uint32: return f(reinterpret_cast<const uint32_t*>(view.first));
    case ElementType::int64: return f(reinterpret_cast<const int64_t*>(view.first));
    case ElementType::uint64: return f(reinterpret_cast<const uint64_t*>(view.first));
    case ElementType::float64: return f(reinterpret_cast<const double*>(view.first));
    case ElementType::float32: break;
  }
  return f(reinterpret_cast<const float*>(view.first));
}

}  // namespace sgmf
