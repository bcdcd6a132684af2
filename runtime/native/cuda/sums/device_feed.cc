#include "cuda/sums/device_feed.h"

#include <algorithm>
#include <utility>

#include "pipeline/error.h"

namespace sgmf::cuda {

DeviceFeed::DeviceFeed(DeviceNetwork& network, ImageTiles tiles)
    : network_(network),
      tiles_(std::move(tiles)),
      tile_floats_(tiles_.image.channels * voxel_count(extent(tiles_.boxes.front()))),
      batch_(static_cast<std::size_t>(network.tiles_at_once() * tile_floats_)),
      logits_(static_cast<std::size_t>(network.tiles_at_once())) {}

DeviceLogits DeviceFeed::next() {
  const std::size_t place = next_ % logits_.size();
  if (place == 0) start_batch();
  ++next_;
  return logits_[place];
}

void DeviceFeed::start_batch() {
  if (tiles_.cancelled && tiles_.cancelled()) {
    throw Error(ErrorCode::cancelled, "the prediction was cancelled");
  }
  const std::size_t count = std::min(logits_.size(), tiles_.boxes.size() - next_);
  for (std::size_t i = 0; i < count; ++i) {
    cut_tile(tiles_.image, tiles_.place, tiles_.boxes[next_ + i],
             batch_.data() + static_cast<int64_t>(i) * tile_floats_);
  }
  network_.start(batch_.data(), static_cast<int64_t>(count), logits_.data());
}

}  // namespace sgmf::cuda
