// The box of a scan's content, as nnU-Net or MONAI finds it before it normalises.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/geometry/channel_view.h"

namespace sgmf {

// Smallest box outside which every channel is zero; or, if `above` is given, not above that. Only
// the border is read, and the first slices of what lies inside. Throws Error(input) where the box
// is empty.
Box content_box(const std::vector<ChannelView>& channels, const std::optional<double>& above);

// 1 where any channel differs from zero, holes filled; C order. The mask of a scan inside its
// content box is that of the box alone: all around it is zero, so what is open there is open to
// its border.
std::vector<uint8_t> nonzero_mask(const std::vector<ChannelView>& channels, int threads);

}  // namespace sgmf
