// Intensity normalisation, with the schemes and the order of operations of nnU-Net v2.
//
// Scans hold values beyond a million, which no 16-bit float can carry. So statistics are
// accumulated in float64 and intensities are scaled in float32, before any conversion to the
// precision of a network.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/channel_view.h"
#include "pipeline/spec.h"

namespace sgmf {

// One channel's intensities, scaled as they are read: only statistics are computed ahead.
class NormalizedChannel {
 public:
  // `mask` has the channel's shape in C order and may be null where `use_mask` is not set; only a
  // z-score with `use_mask` looks at it: voxels outside then count for nothing and keep their
  // value. It is borrowed. Statistics do not depend on `threads`. Throws Error(input) where rgb01
  // meets an intensity outside 0 to 255.
  NormalizedChannel(const ChannelView& channel, const Normalization& normalization,
                    const uint8_t* mask, int threads);

  const Triple& shape() const { return channel_.shape; }

  // Scaled intensities inside a box, C order.
  void read(const Box& box, float* out) const;
  // The same of intensities that were read, in their place.
  void rescale(const Box& box, float* values) const;

 private:
  void scale(const Box& box, float* values) const;
  void scale_inside_mask(const Box& box, float* values) const;
  void scale_nonzero(float* values, int64_t count) const;

  ChannelView channel_;
  const uint8_t* mask_;  // null: everywhere
  bool unchanged_ = false;
  bool nonzero_ = false;  // voxels that are zero count for nothing and stay zero
  bool clipped_ = false;
  float lower_ = 0;
  float upper_ = 0;
  // Of the channel, or of each plane across depth.
  std::vector<float> subtracted_;
  std::vector<float> divisor_;
};

// Scales intensities (*shape), C order, by a normalization without a mask.
void normalize_in_place(float* values, const Triple& shape, const Normalization& normalization,
                        int threads);

}  // namespace sgmf
