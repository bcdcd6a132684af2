#include "kernels/interface/fill_holes.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel.h"

namespace sgmf {
namespace {

constexpr uint8_t inside = 1;
constexpr uint8_t outside = 2;

// Marks the zeros that the border reaches, a run of a row at a time. Waiting runs are held on a
// stack: far fewer than voxels.
class Flood {
 public:
  explicit Flood(const sgmf_fill_holes_args& args)
      : voxels_(args.voxels),
        depth_(args.extent[0]),
        height_(args.extent[1]),
        width_(args.extent[2]) {}

  void from_border() {
    for (int64_t z = 0; z < depth_; ++z) {
      for (int64_t y = 0; y < height_; ++y) {
        if (z == 0 || z == depth_ - 1 || y == 0 || y == height_ - 1) {
          push_runs(z, y, 0, width_);
        } else {
          push_runs(z, y, 0, 1);
          push_runs(z, y, width_ - 1, width_);
        }
        drain();
      }
    }
  }

 private:
  int64_t row(int64_t z, int64_t y) const { return (z * height_ + y) * width_; }

  void drain() {
    while (!waiting_.empty()) {
      const int64_t voxel = waiting_.back();
      waiting_.pop_back();
      if (!voxels_[voxel])
        mark_run(voxel / width_ / height_, voxel / width_ % height_, voxel % width_);
    }
  }

  void mark_run(int64_t z, int64_t y, int64_t x) {
    uint8_t* voxels = voxels_ + row(z, y);
    int64_t begin = x;
    int64_t end = x;
    while (begin > 0 && !voxels[begin - 1]) --begin;
    while (end < width_ && !voxels[end]) ++end;
    std::fill(voxels + begin, voxels + end, outside);
    if (z > 0) push_runs(z - 1, y, begin, end);
    if (z + 1 < depth_) push_runs(z + 1, y, begin, end);
    if (y > 0) push_runs(z, y - 1, begin, end);
    if (y + 1 < height_) push_runs(z, y + 1, begin, end);
  }

  // The first voxel of each run of zeros within [begin, end) of a row.
  void push_runs(int64_t z, int64_t y, int64_t begin, int64_t end) {
    const int64_t start = row(z, y);
    const uint8_t* voxels = voxels_ + start;
    for (int64_t x = begin; x < end; ++x) {
      if (!voxels[x] && (x == begin || voxels[x - 1])) waiting_.push_back(start + x);
    }
  }

  uint8_t* voxels_;
  int64_t depth_, height_, width_;
  std::vector<int64_t> waiting_;
};

}  // namespace
}  // namespace sgmf

extern "C" const char* sgmf_fill_holes(const sgmf_fill_holes_args* args, int32_t) {
  if (!args || !args->voxels) return "a pointer is NULL";
  if (std::min({args->extent[0], args->extent[1], args->extent[2]}) < 1) {
    return "an extent is below 1";
  }
  try {
    sgmf::Flood(*args).from_border();
  } catch (...) {
    return sgmf::out_of_memory;
  }
  const int64_t count = args->extent[0] * args->extent[1] * args->extent[2];
  std::transform(args->voxels, args->voxels + count, args->voxels, [](uint8_t voxel) {
    return static_cast<uint8_t>(voxel == sgmf::outside ? 0 : sgmf::inside);
  });
  return nullptr;
}
