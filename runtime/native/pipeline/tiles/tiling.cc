#include "pipeline/tiles/tiling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "pipeline/error.h"

namespace sgmf {
namespace {

constexpr double gaussian_peak = 10;
constexpr double gaussian_sigma = 1.0 / 8;
constexpr double gaussian_reach = 4;  // standard deviations
constexpr float monai_least_weight = 1e-3f;

// Tiles that are no mistake: at ten in a second they take a day.
constexpr double most_tiles = 1e6;

[[noreturn]] void refuse_tiles() {
  throw Error(ErrorCode::input,
              "the scan takes over a million tiles; check its spacing, and the model's step");
}

void check_axis(int64_t extent, int64_t tile, double step) {
  if (tile < 1 || tile > extent) {
    throw Error(ErrorCode::argument, "a tile of " + std::to_string(tile) + " voxels does not fit " +
                                         std::to_string(extent) + "; pad the volume first");
  }
  if (!(step > 0 && step <= 1)) {
    throw Error(ErrorCode::argument, "the step is " + std::to_string(step) +
                                         "; expected a part of the tile, above 0 and at most 1");
  }
  if (static_cast<double>(extent - tile) > most_tiles * static_cast<double>(tile) * step) {
    refuse_tiles();
  }
}

// Rounds half to even whatever the processor's mode.
double rounded(double number) {
  const double floor = std::floor(number), rest = number - floor;
  if (rest != 0.5) return rest < 0.5 ? floor : floor + 1;
  return std::fmod(floor, 2) == 0 ? floor : floor + 1;
}

// To float16's precision, half to even, in one step: by way of float32 ties would be made.
float to_half_precision(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const int64_t exponent = std::max<int64_t>(static_cast<int64_t>(bits >> 52) - 1023, -14);
  // A number whose last place is that of a float16 as large as the value: the sum with it is
  // rounded there. 1.5 keeps its exponent.
  bits = static_cast<uint64_t>(exponent - 10 + 52 + 1023) << 52 | uint64_t{1} << 51;
  double anchor;
  std::memcpy(&anchor, &bits, sizeof(anchor));
  return static_cast<float>((value + anchor) - anchor);
}

// A blurred impulse in the middle of an axis.
std::vector<double> blurred_impulse(int64_t extent) {
  const double sigma = static_cast<double>(extent) * gaussian_sigma;
  const int64_t radius = static_cast<int64_t>(gaussian_reach * sigma + 0.5);
  const auto value = [&](int64_t offset) {
    return std::exp(-0.5 / (sigma * sigma) * static_cast<double>(offset * offset));
  };
  double sum = 0;
  for (int64_t offset = -radius; offset <= radius; ++offset) sum += value(offset);
  std::vector<double> blurred(static_cast<std::size_t>(extent));
  for (int64_t i = 0; i < extent; ++i) {
    const int64_t offset = i - extent / 2;
    blurred[i] = std::abs(offset) <= radius ? value(offset) / sum : 0;
  }
  return blurred;
}

std::vector<float> nnunet_weights(const Triple& tile) {
  const std::vector<double> depth = blurred_impulse(tile[0]), height = blurred_impulse(tile[1]),
                            width = blurred_impulse(tile[2]);
  const double largest = depth[tile[0] / 2] * height[tile[1] / 2] * width[tile[2] / 2];
  const double scale = largest / gaussian_peak;
  std::vector<float> weights;
  weights.reserve(static_cast<std::size_t>(voxel_count(tile)));
  float least = static_cast<float>(gaussian_peak);
  for (const double z : depth) {
    for (const double y : height) {
      for (const double x : width) {
        weights.push_back(to_half_precision(z * y * x / scale));
        if (weights.back() > 0) least = std::min(least, weights.back());
      }
    }
  }
  for (float& weight : weights) weight = weight > 0 ? weight : least;
  return weights;
}

// Exponentials are rounded from double: the same on every processor.
std::vector<float> bell(int64_t extent) {
  const float middle = static_cast<float>(static_cast<double>(extent - 1) / 2);
  const double sigma = static_cast<double>(extent) * gaussian_sigma;
  const float divisor = static_cast<float>(-2 * sigma * sigma);
  std::vector<float> values;
  for (int64_t i = 0; i < extent; ++i) {
    const float offset = static_cast<float>(i) - middle;
    const float exponent = offset * offset / divisor;
    values.push_back(static_cast<float>(std::exp(static_cast<double>(exponent))));
  }
  return values;
}

std::vector<float> monai_weights(const Triple& tile) {
  const std::vector<float> depth = bell(tile[0]), height = bell(tile[1]), width = bell(tile[2]);
  std::vector<float> weights;
  weights.reserve(static_cast<std::size_t>(voxel_count(tile)));
  for (const float z : depth) {
    for (const float y : height) {
      for (const float x : width) weights.push_back(std::max(z * y * x, monai_least_weight));
    }
  }
  return weights;
}

// A tile of one voxel, as the slices of a 2-D network, has a step of one whatever is asked for.
double stride_of(int64_t tile, double step) {
  return tile == 1 ? 1.0 : static_cast<double>(tile) * step;
}

std::vector<int64_t> spread_starts(int64_t extent, int64_t tile, double step) {
  const int64_t count =
      static_cast<int64_t>(std::ceil(static_cast<double>(extent - tile) / stride_of(tile, step))) +
      1;
  const double spread =
      count > 1 ? static_cast<double>(extent - tile) / static_cast<double>(count - 1) : 0.0;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < count; ++i) {
    starts.push_back(static_cast<int64_t>(rounded(spread * static_cast<double>(i))));
  }
  return starts;
}

std::vector<int64_t> strided_starts(int64_t extent, int64_t tile, double step) {
  const int64_t stride =
      std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(tile) * step));
  std::vector<int64_t> starts;
  for (int64_t start = 0; start < extent - tile; start += stride) starts.push_back(start);
  starts.push_back(extent - tile);
  return starts;
}

// Calls f(row of `source`, row of `target`, whether they run against each other) for each row.
template <typename F>
void for_each_mirrored_row(int64_t count, const Triple& shape, const std::vector<int>& axes, F f) {
  bool reverse[3] = {};
  for (const int axis : axes) reverse[axis] = true;
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t z = 0; z < shape[0]; ++z) {
      const int64_t from_z = reverse[0] ? shape[0] - 1 - z : z;
      for (int64_t y = 0; y < shape[1]; ++y) {
        const int64_t from_y = reverse[1] ? shape[1] - 1 - y : y;
        f(((n * shape[0] + from_z) * shape[1] + from_y) * shape[2],
          ((n * shape[0] + z) * shape[1] + y) * shape[2], reverse[2]);
      }
    }
  }
}

}  // namespace

std::vector<int64_t> tile_starts(TilingScheme scheme, int64_t extent, int64_t tile, double step) {
  check_axis(extent, tile, step);
  return scheme == TilingScheme::monai ? strided_starts(extent, tile, step)
                                       : spread_starts(extent, tile, step);
}

std::vector<Box> tile_boxes(const Triple& shape, const Tiling& tiling) {
  std::array<std::vector<int64_t>, 3> starts;
  for (int axis = 0; axis < 3; ++axis) {
    starts[axis] = tile_starts(tiling.scheme, shape[axis], tiling.tile[axis], tiling.step);
  }
  double count = 1;
  for (const std::vector<int64_t>& axis : starts) count *= static_cast<double>(axis.size());
  if (count > most_tiles) refuse_tiles();
  std::vector<Box> boxes;
  for (const int64_t z : starts[0]) {
    for (const int64_t y : starts[1]) {
      for (const int64_t x : starts[2]) {
        boxes.push_back(
            {Range{z, z + tiling.tile[0]}, {y, y + tiling.tile[1]}, {x, x + tiling.tile[2]}});
      }
    }
  }
  return boxes;
}

std::vector<float> tile_weights(const Tiling& tiling) {
  if (!tiling.gaussian) {
    return std::vector<float>(static_cast<std::size_t>(voxel_count(tiling.tile)), 1.0f);
  }
  return tiling.scheme == TilingScheme::monai ? monai_weights(tiling.tile)
                                              : nnunet_weights(tiling.tile);
}

Padding::Padding(const Triple& image_shape, const Triple& tile) {
  for (int axis = 0; axis < 3; ++axis) {
    shape[axis] = std::max(tile[axis], image_shape[axis]);
    const int64_t corner = (shape[axis] - image_shape[axis]) / 2;
    place[axis] = {corner, corner + image_shape[axis]};
  }
}

void cut_tile(const Image& image, const Box& place, const Box& box, float* out) {
  const Triple size = extent(box);
  const int64_t voxels = voxel_count(size);
  const bool inside = meet(box, place) && shared(box, place) == box;
  if (!inside) std::fill_n(out, image.channels * voxels, 0.0f);
  if (!meet(box, place)) return;
  const Box both = shared(box, place);
  const std::size_t row_bytes = static_cast<std::size_t>(both[2].size()) * sizeof(float);
  for (int64_t channel = 0; channel < image.channels; ++channel) {
    const float* source = image.values + channel * voxel_count(image.shape);
    float* target = out + channel * voxels;
    for (int64_t z = both[0].begin; z < both[0].end; ++z) {
      for (int64_t y = both[1].begin; y < both[1].end; ++y) {
        const int64_t from =
            ((z - place[0].begin) * image.shape[1] + y - place[1].begin) * image.shape[2] +
            both[2].begin - place[2].begin;
        const int64_t to = ((z - box[0].begin) * size[1] + y - box[1].begin) * size[2] +
                           both[2].begin - box[2].begin;
        std::memcpy(target + to, source + from, row_bytes);
      }
    }
  }
}

std::vector<std::vector<int>> mirrorings(const std::vector<int>& axes) {
  // By the number of axes, then in the order of the axes: sums of float32 depend on it.
  std::vector<std::vector<int>> found;
  const unsigned all = 1u << axes.size();
  for (std::size_t size = 0; size <= axes.size(); ++size) {
    std::vector<std::vector<int>> places;
    for (unsigned chosen = 0; chosen < all; ++chosen) {
      std::vector<int> some;
      for (std::size_t i = 0; i < axes.size(); ++i) {
        if (chosen >> i & 1) some.push_back(static_cast<int>(i));
      }
      if (some.size() == size) places.push_back(some);
    }
    std::sort(places.begin(), places.end());
    for (std::vector<int>& some : places) {
      for (int& place : some) place = axes[place];
      found.push_back(some);
    }
  }
  return found;
}

void mirror(const float* source, int64_t count, const Triple& shape, const std::vector<int>& axes,
            float* out) {
  for_each_mirrored_row(count, shape, axes, [&](int64_t from, int64_t to, bool reverse) {
    const float* row = source + from;
    if (reverse) {
      std::reverse_copy(row, row + shape[2], out + to);
    } else {
      std::copy_n(row, shape[2], out + to);
    }
  });
}

void add_mirrored(const float* source, int64_t count, const Triple& shape,
                  const std::vector<int>& axes, float* total) {
  for_each_mirrored_row(count, shape, axes, [&](int64_t from, int64_t to, bool reverse) {
    const float* row = source + from;
    float* sum = total + to;
    if (reverse) {
      for (int64_t x = 0; x < shape[2]; ++x) sum[x] += row[shape[2] - 1 - x];
    } else {
      for (int64_t x = 0; x < shape[2]; ++x) sum[x] += row[x];
    }
  });
}

}  // namespace sgmf
