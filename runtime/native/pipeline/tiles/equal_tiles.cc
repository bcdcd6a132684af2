#include "pipeline/tiles/equal_tiles.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>

namespace sgmf {
namespace {

// Compared as bits: a network may tell -0 from 0.
using Bits = uint32_t;

Bits bits_of(const float* value) {
  Bits bits;
  std::memcpy(&bits, value, sizeof bits);
  return bits;
}

// The value that all voxels of a box share, in one channel of an image.
std::optional<Bits> shared_value(const float* channel, const Triple& shape, const Box& box) {
  const auto row = [&](int64_t z, int64_t y) {
    return channel + (z * shape[1] + y) * shape[2] + box[2].begin;
  };
  const Bits value = bits_of(row(box[0].begin, box[1].begin));
  const std::size_t next_bytes = static_cast<std::size_t>(box[2].size() - 1) * sizeof(float);
  for (int64_t z = box[0].begin; z < box[0].end; ++z) {
    for (int64_t y = box[1].begin; y < box[1].end; ++y) {
      const float* values = row(z, y);
      // A row that equals itself moved by one voxel holds one value.
      if (bits_of(values) != value || std::memcmp(values, values + 1, next_bytes)) return {};
    }
  }
  return value;
}

// The value of each channel of a tile, where they hold one.
std::optional<std::vector<Bits>> values_of(const Image& image, const Box& place, const Box& box) {
  std::vector<Bits> values(static_cast<std::size_t>(image.channels), 0);
  if (!meet(box, place)) return values;
  const Box both = shared(box, place);
  Box inside;
  for (int axis = 0; axis < 3; ++axis) inside[axis] = moved(both[axis], -place[axis].begin);
  for (int64_t channel = 0; channel < image.channels; ++channel) {
    const float* source = image.values + channel * voxel_count(image.shape);
    const std::optional<Bits> value = shared_value(source, image.shape, inside);
    if (!value || (*value != 0 && !(both == box))) return {};
    values[channel] = *value;
  }
  return values;
}

}  // namespace

EqualTiles equal_tiles(const Image& image, const Box& place, const std::vector<Box>& boxes) {
  std::map<std::vector<Bits>, std::vector<std::size_t>> alike;
  for (std::size_t tile = 0; tile < boxes.size(); ++tile) {
    if (const auto values = values_of(image, place, boxes[tile])) alike[*values].push_back(tile);
  }
  EqualTiles found;
  found.repeat.assign(boxes.size(), false);
  const auto most = std::max_element(alike.begin(), alike.end(), [](const auto& a, const auto& b) {
    return a.second.size() < b.second.size();
  });
  if (most == alike.end() || most->second.size() < 2) return found;
  found.first = static_cast<int64_t>(most->second.front());
  for (const std::size_t tile : most->second) {
    found.repeat[tile] = static_cast<int64_t>(tile) != found.first;
  }
  return found;
}

}  // namespace sgmf
