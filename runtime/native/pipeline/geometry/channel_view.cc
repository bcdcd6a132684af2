#include "pipeline/geometry/channel_view.h"

#include <algorithm>
#include <cstdlib>

namespace sgmf {
namespace {

// Elements that are copied across two axes at once where rows are not contiguous: as many cache
// lines as the nearest cache holds.
constexpr int64_t block = 32;

template <typename T>
void copy_plain(const T* source, const Triple& extent, const Triple& strides, float* out) {
  for (int64_t z = 0; z < extent[0]; ++z) {
    for (int64_t y = 0; y < extent[1]; ++y) {
      const T* row = source + z * strides[0] + y * strides[1];
      if (strides[2] == 1) {
        for (int64_t x = 0; x < extent[2]; ++x) out[x] = static_cast<float>(row[x]);
      } else {
        for (int64_t x = 0; x < extent[2]; ++x) out[x] = static_cast<float>(row[x * strides[2]]);
      }
      out += extent[2];
    }
  }
}

// As copy_plain, but with neighbours in memory, which lie along `fast`, read one after the other.
template <typename T>
void copy_blocks(const T* source, const Triple& extent, const Triple& strides, int fast,
                 float* out) {
  const int slow = 1 - fast;
  const int64_t steps[] = {extent[1] * extent[2], extent[2]};
  for (int64_t s = 0; s < extent[slow]; ++s) {
    for (int64_t f0 = 0; f0 < extent[fast]; f0 += block) {
      const int64_t f1 = std::min(f0 + block, extent[fast]);
      for (int64_t x0 = 0; x0 < extent[2]; x0 += block) {
        const int64_t x1 = std::min(x0 + block, extent[2]);
        for (int64_t f = f0; f < f1; ++f) {
          const T* from = source + s * strides[slow] + f * strides[fast];
          float* to = out + s * steps[slow] + f * steps[fast];
          for (int64_t x = x0; x < x1; ++x) to[x] = static_cast<float>(from[x * strides[2]]);
        }
      }
    }
  }
}

int fastest_axis(const Triple& strides) {
  int fastest = 2;
  for (const int axis : {1, 0}) {
    if (std::abs(strides[axis]) < std::abs(strides[fastest])) fastest = axis;
  }
  return fastest;
}

}  // namespace

ChannelView ChannelView::cut(const Box& box) const {
  ChannelView part = *this;
  for (int axis = 0; axis < 3; ++axis) {
    part.first += box[axis].begin * strides[axis] * element_bytes(type);
    part.shape[axis] = box[axis].size();
  }
  return part;
}

void ChannelView::read(const Box& box, float* out) const {
  const ChannelView part = cut(box);
  const int fastest = fastest_axis(strides);
  with_type(part, [&](const auto* source) {
    if (fastest == 2) {
      copy_plain(source, part.shape, strides, out);
    } else {
      copy_blocks(source, part.shape, strides, fastest, out);
    }
  });
}

std::vector<ChannelView> channel_views(const Volume& volume, const Reorientation& reorientation) {
  const Layout layout(volume.shape, {volume.strides[1], volume.strides[2], volume.strides[3]},
                      reorientation);
  const int64_t size = element_bytes(volume.type);
  std::vector<ChannelView> views;
  for (int64_t channel = 0; channel < volume.channels; ++channel) {
    const char* first = static_cast<const char*>(volume.voxels) +
                        (channel * volume.strides[0] + layout.first) * size;
    views.push_back({first, volume.type, layout.shape, layout.strides});
  }
  return views;
}

ChannelView view(const LabelBuffer& labels, const Triple& stored_shape, const Reorientation& by) {
  const Layout layout(stored_shape, labels.strides, by);
  const char* first =
      static_cast<const char*>(labels.labels) + layout.first * element_bytes(labels.type);
  return {first, labels.type, layout.shape, layout.strides};
}

}  // namespace sgmf
