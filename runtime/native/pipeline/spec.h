// Specification of the work around a network; mirrors runtime/spec.py.
//
// Triples count depth, height, width after `transpose_forward`, as nnU-Net does.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace sgmf {

using Triple = std::array<int64_t, 3>;
using Spacing = std::array<double, 3>;

// Is not a number.
constexpr double scans_own_mm = std::numeric_limits<double>::quiet_NaN();

enum class NormalizationScheme {
  zscore,
  ct,
  none,
  rescale01,
  rescale01_slices,
  rgb01,
  clip,
  zscore_nonzero,
};

// Scaling of one channel's intensities; `mean` to `upper` only for `ct` and `clip`.
struct Normalization {
  NormalizationScheme scheme = NormalizationScheme::zscore;
  bool use_mask = false;
  double mean = 0;
  double std = 0;
  double lower = 0;
  double upper = 0;
};

enum class ResamplingMethod { spline, torch, area, floor };
// What coincides of two grids. The centre of a grid of n voxels is n / 2, as in MONAI.
enum class Alignment { borders, first_voxels, end_voxels, centres };

// Spline orders 0 to 5; `order_z` along the coarse axis where it is treated on its own. Without
// `separate_z` a ratio of spacings above `anisotropy_threshold` decides. The other methods are
// those of PyTorch: torch takes places in float32, area the mean of the voxels that a new one
// meets, floor the voxel at or before its place. area, floor and alignments other than borders
// treat every axis alike.
struct Resampling {
  int order = 3;
  int order_z = 0;
  std::optional<bool> separate_z;
  double anisotropy_threshold = 3.0;
  ResamplingMethod method = ResamplingMethod::spline;
  Alignment alignment = Alignment::borders;

  // Whether every axis is resampled alike, by two voxels or by their mean.
  bool is_whole() const { return order <= 1 && !separate_z.value_or(true); }
  bool needs_whole() const {
    return alignment != Alignment::borders || method == ResamplingMethod::area ||
           method == ResamplingMethod::floor;
  }
};

struct Preprocessing {
  std::vector<std::string> channels;         // names, for messages
  std::vector<Normalization> normalization;  // one for each channel
  // Three letters such as RAS that voxels are brought to first; empty takes them as stored.
  std::string orientation = "RAS";
  std::array<int, 3> transpose_forward{0, 1, 2};  // of the (z, y, x) axes
  bool crop_to_nonzero = true;
  std::optional<double> crop_above;  // instead: to the voxels above it in any channel
  // Along the transposed axes; none keeps the scan's, scans_own_mm that of an axis.
  std::optional<Spacing> spacing_mm;
  std::optional<Triple> shape;  // instead: voxels along the transposed axes of every image
  Resampling resampling;
  Resampling logits_resampling{
      1, 0, std::nullopt, 3.0, ResamplingMethod::spline, Alignment::borders};
  bool resample_first = false;  // intensities are normalised after resampling
};

enum class TilingScheme { nnunet, monai };

// Of a tile: larger tensors no backend takes.
constexpr double most_tile_voxels = 2147483647;

struct Tiling {
  Triple tile{};
  double step = 0.5;  // distance of neighbouring tiles as a fraction of the tile
  bool gaussian = true;
  std::vector<int> mirror_axes;  // that may be mirrored; each that is doubles the cost
  TilingScheme scheme = TilingScheme::nnunet;

  // Of a tile; an int64_t could overflow.
  double voxels() const {
    return static_cast<double>(tile[0]) * static_cast<double>(tile[1]) *
           static_cast<double>(tile[2]);
  }
};

// Exclusive labels, whose values are 0, 1 and so on; or, if `region_values` is not empty,
// overlapping regions: channel i paints region_values[i], later ones over earlier.
struct Output {
  std::vector<uint16_t> label_values;
  std::vector<uint16_t> region_values;
  bool interpolates_probabilities = false;  // instead of logits, to the scan's grid

  int64_t channels() const {
    return static_cast<int64_t>(region_values.empty() ? label_values.size() : region_values.size());
  }
  // Decides if uint8 holds every label.
  uint16_t largest_value() const;
};

// Of the voxels with one of these labels, only the largest components stay; others become 0.
struct KeepLargest {
  std::vector<uint16_t> labels;
  int components = 1;       // number that stays
  int connectivity = 3;     // voxels touch by a face (1), also an edge (2), also a corner (3)
  bool equals_stay = true;  // of equally large ones; otherwise the last ones of the scan's voxels
};

// Labels of a cascade's first network as further channels of the second one's image: masks, in this
// order. Orders of the resampling are up to one; `order_z` is 0.
struct PreviousStage {
  std::vector<uint16_t> labels;
  Resampling resampling{1, 0, std::nullopt, 3.0, ResamplingMethod::spline, Alignment::borders};
};

struct Spec {
  Preprocessing preprocessing;
  Tiling tiling;
  Output output;
  std::vector<KeepLargest> postprocessing;  // of the label map, in this order
  std::optional<PreviousStage> previous_stage;

  // Of the network's image: those of the scan, then the masks.
  int64_t image_channels() const {
    const std::size_t masks = previous_stage ? previous_stage->labels.size() : 0;
    return static_cast<int64_t>(preprocessing.channels.size() + masks);
  }
};

// Throws Error(argument) where a specification contradicts itself; a manifest that Python reads
// never does.
void check(const Preprocessing& preprocessing);
void check(const Tiling& tiling);
void check(const Output& output);
void check(const Spec& spec);

}  // namespace sgmf
