#include "pipeline/geometry/crop.h"

#include <algorithm>
#include <string>

#include "kernels/interface/fill_holes.h"
#include "kernels/parallel.h"
#include "pipeline/error.h"
#include "python/kernel_call.h"

namespace sgmf {
namespace {

// The tightest box around the voxels that were seen; a row is only read outside of it.
template <typename T>
class Bounds {
 public:
  Bounds(const T* voxels, const Triple& shape, const Triple& strides,
         const std::optional<double>& above, Box& box)
      : voxels_(voxels),
        shape_(shape),
        strides_(strides),
        has_threshold_(above),
        threshold_(static_cast<float>(above.value_or(0))),
        box_(box) {}

  void widen() {
    widen_depth();
    if (is_empty()) return;
    for (int64_t z = box_[0].begin; z < box_[0].end; ++z) widen_height(z);
    for (int64_t z = box_[0].begin; z < box_[0].end; ++z) {
      for (int64_t y = box_[1].begin; y < box_[1].end; ++y) widen_width(z, y);
    }
  }

 private:
  bool is_empty() const { return box_[0].size() < 1; }

  bool is_set(int64_t z, int64_t y, int64_t x) const {
    const T voxel = voxels_[z * strides_[0] + y * strides_[1] + x * strides_[2]];
    const float intensity = static_cast<float>(voxel);
    return has_threshold_ ? intensity > threshold_ : intensity != 0;
  }

  bool is_row_set(int64_t z, int64_t y) const {
    for (int64_t x = 0; x < shape_[2]; ++x) {
      if (is_set(z, y, x)) return true;
    }
    return false;
  }

  bool is_plane_set(int64_t z) const {
    for (int64_t y = 0; y < shape_[1]; ++y) {
      if (is_row_set(z, y)) return true;
    }
    return false;
  }

  void widen_depth() {
    int64_t z = 0;
    const int64_t first = is_empty() ? shape_[0] : box_[0].begin;
    while (z < first && !is_plane_set(z)) ++z;
    if (z < first) box_[0] = {z, is_empty() ? z + 1 : box_[0].end};
    if (is_empty()) return;
    for (z = shape_[0] - 1; z >= box_[0].end; --z) {
      if (is_plane_set(z)) box_[0].end = z + 1;
    }
  }

  void widen_height(int64_t z) {
    const int64_t first = box_[1].size() < 1 ? shape_[1] : box_[1].begin;
    for (int64_t y = 0; y < first; ++y) {
      if (!is_row_set(z, y)) continue;
      box_[1] = {y, box_[1].size() < 1 ? y + 1 : box_[1].end};
      break;
    }
    if (box_[1].size() < 1) return;
    for (int64_t y = shape_[1] - 1; y >= box_[1].end; --y) {
      if (is_row_set(z, y)) box_[1].end = y + 1;
    }
  }

  void widen_width(int64_t z, int64_t y) {
    const int64_t first = box_[2].size() < 1 ? shape_[2] : box_[2].begin;
    for (int64_t x = 0; x < first; ++x) {
      if (!is_set(z, y, x)) continue;
      box_[2] = {x, box_[2].size() < 1 ? x + 1 : box_[2].end};
      break;
    }
    if (box_[2].size() < 1) return;
    for (int64_t x = shape_[2] - 1; x >= box_[2].end; --x) {
      if (is_set(z, y, x)) box_[2].end = x + 1;
    }
  }

  const T* voxels_;
  const Triple shape_;
  const Triple strides_;
  const bool has_threshold_;
  const float threshold_;
  Box& box_;
};

template <typename T>
void mark_plane(const T* voxels, const Triple& shape, const Triple& strides, int64_t z,
                uint8_t* mask) {
  for (int64_t y = 0; y < shape[1]; ++y) {
    const T* row = voxels + z * strides[0] + y * strides[1];
    uint8_t* out = mask + (z * shape[1] + y) * shape[2];
    for (int64_t x = 0; x < shape[2]; ++x) {
      out[x] = static_cast<uint8_t>(out[x] | (static_cast<float>(row[x * strides[2]]) != 0));
    }
  }
}

}  // namespace

Box content_box(const std::vector<ChannelView>& channels, const std::optional<double>& above) {
  Box box{};
  for (const ChannelView& channel : channels) {
    with_type(channel, [&](const auto* voxels) {
      Bounds(voxels, channel.shape, channel.strides, above, box).widen();
    });
  }
  if (box[0].size() < 1) {
    throw Error(ErrorCode::input, std::string("every voxel of the scan is ") +
                                      (above ? "background to the model's cropping" : "zero") +
                                      "; there is nothing to segment");
  }
  return box;
}

std::vector<uint8_t> nonzero_mask(const std::vector<ChannelView>& channels, int threads) {
  const Triple& shape = channels.front().shape;
  std::vector<uint8_t> mask(static_cast<std::size_t>(voxel_count(shape)));
  own_threads(threads)(static_cast<std::size_t>(shape[0]), [&](std::size_t z) {
    for (const ChannelView& channel : channels) {
      with_type(channel, [&](const auto* voxels) {
        mark_plane(voxels, shape, channel.strides, static_cast<int64_t>(z), mask.data());
      });
    }
  });
  const sgmf_fill_holes_args args{mask.data(), {shape[0], shape[1], shape[2]}};
  expect_success(sgmf_fill_holes(&args, 1));
  return mask;
}

}  // namespace sgmf
