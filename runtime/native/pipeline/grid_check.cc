#include "pipeline/grid_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "pipeline/error.h"

namespace sgmf {
namespace {

// A few voxels: a cube of eight, or an axis of two. Only what was a scan, and much larger, was
// shrunk.
constexpr double few_voxels = 8 * 8 * 8;
constexpr double much_smaller = 4 * 4 * 4;
constexpr double least_scan = 16 * 16 * 16;
constexpr int64_t few_along_axis = 2;
constexpr int64_t much_shorter = 16;
// At one in a second, which is fast for a large network on a processor, they take a day.
constexpr double most_tiles = 86400;

bool is_shrunk(const Triple& before, const Triple& after) {
  double voxels_before = 1, voxels_after = 1;
  for (int axis = 0; axis < 3; ++axis) {
    if (after[axis] <= few_along_axis && before[axis] >= much_shorter * after[axis]) return true;
    voxels_before *= static_cast<double>(before[axis]);
    voxels_after *= static_cast<double>(after[axis]);
  }
  return voxels_after < few_voxels &&
         voxels_before >= std::max(least_scan, much_smaller * voxels_after);
}

// Without the rounding of positions: of two schemes that differ by it, the larger.
double tile_count(const Triple& shape, const Tiling& tiling) {
  double count = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const double tile = static_cast<double>(tiling.tile[axis]);
    const double rest = std::max(0.0, static_cast<double>(shape[axis]) - tile);
    const double stride = tiling.scheme == TilingScheme::monai
                              ? std::max(1.0, std::floor(tile * tiling.step))
                              : (tile == 1 ? 1.0 : tile * tiling.step);
    count *= std::ceil(rest / stride) + 1;
  }
  return count;
}

template <typename T>
std::string product(const std::array<T, 3>& numbers) {
  char text[120];
  std::snprintf(text, sizeof(text), "%.6g x %.6g x %.6g", static_cast<double>(numbers[0]),
                static_cast<double>(numbers[1]), static_cast<double>(numbers[2]));
  return text;
}

[[noreturn]] void refuse(const NetworkGrid& grid, const std::string& rest) {
  throw Error(ErrorCode::geometry, "the scan's " + product(grid.uncropped_shape) + " voxels of " +
                                       product(grid.scan_spacing_mm) + " mm become " +
                                       product(grid.shape) + " on the model's grid of " +
                                       product(grid.spacing_mm) + " mm" + rest);
}

}  // namespace

void check_grid(const NetworkGrid& grid, const Tiling& tiling) {
  if (is_shrunk(grid.uncropped_shape, grid.shape)) {
    refuse(grid,
           ", too few to segment; expected millimetres. Check the header's spacing and "
           "its unit, which may be micrometre or metre");
  }
  const double count = tile_count(grid.shape, tiling);
  if (count > most_tiles) {
    char tiles[160];
    std::snprintf(tiles, sizeof(tiles),
                  ", which takes %.0f tiles; expected at most %.0f, a day's work. Check the "
                  "header's spacing and its unit, or crop the scan",
                  count, most_tiles);
    refuse(grid, tiles);
  }
}

}  // namespace sgmf
