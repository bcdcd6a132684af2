#include "pipeline/prepare.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/finite.h"
#include "pipeline/error.h"
#include "pipeline/geometry/crop.h"
#include "pipeline/sampling/normalize.h"
#include "pipeline/sampling/resample.h"
#include "pipeline/sampling/spaced_grid.h"

namespace sgmf {
namespace {

constexpr double most_floats = 1e15;

NetworkGrid grid_of(const Volume& volume, const Preprocessing& spec, const Box* box) {
  NetworkGrid grid;
  grid.reorientation = network_axes(volume.affine, spec);
  grid.uncropped_shape = reordered(volume.shape, grid.reorientation);
  grid.box = box ? *box : whole(grid.uncropped_shape);
  grid.scan_spacing_mm = reordered(volume.spacing(), grid.reorientation);
  grid.spacing_mm = spec.spacing_mm.value_or(grid.scan_spacing_mm);
  for (int axis = 0; axis < 3; ++axis) {
    if (std::isnan(grid.spacing_mm[axis])) grid.spacing_mm[axis] = grid.scan_spacing_mm[axis];
  }
  if (spec.shape) {
    grid.shape = *spec.shape;
    for (int axis = 0; axis < 3; ++axis) {
      grid.spacing_mm[axis] *=
          static_cast<double>(grid.cropped_shape()[axis]) / static_cast<double>(grid.shape[axis]);
    }
  } else if (spec.spacing_mm && spec.resampling.alignment == Alignment::first_voxels) {
    const SpacedGrid spaced =
        spaced_grid(reordered(volume.affine, volume.shape, grid.reorientation, grid.box),
                    grid.cropped_shape(), grid.scan_spacing_mm, grid.spacing_mm);
    grid.spacing_mm = spaced.spacing_mm;
    grid.shape = spaced.shape;
    grid.centred = spaced.centred;
  } else {
    grid.shape = target_shape(grid.cropped_shape(), grid.scan_spacing_mm, grid.spacing_mm);
  }
  double floats = static_cast<double>(volume.channels);
  for (const int64_t extent : grid.shape) floats *= static_cast<double>(extent);
  if (floats > most_floats) {
    throw Error(ErrorCode::geometry,
                "resampled, the scan would have more voxels than any memory holds; check its "
                "spacing");
  }
  return grid;
}

void check_channels(const Volume& volume, const Preprocessing& spec) {
  if (volume.channels == static_cast<int64_t>(spec.normalization.size())) return;
  std::string names;
  for (const std::string& name : spec.channels) names += (names.empty() ? "" : ", ") + name;
  throw Error(ErrorCode::input,
              "the scan has " + std::to_string(volume.channels) + " channels; the model expects " +
                  std::to_string(spec.normalization.size()) + ", in this order: " + names);
}

std::vector<uint8_t> normalization_mask(const std::vector<ChannelView>& channels,
                                        const ChannelView* labels, int threads) {
  std::vector<uint8_t> mask = nonzero_mask(channels, threads);
  if (!labels) return mask;
  const int64_t size = labels->shape[1] * labels->shape[2];
  std::vector<float> plane(static_cast<std::size_t>(size));
  for (int64_t z = 0; z < labels->shape[0]; ++z) {
    labels->read({Range{z, z + 1}, {0, labels->shape[1]}, {0, labels->shape[2]}}, plane.data());
    for (int64_t i = 0; i < size; ++i) mask[z * size + i] |= plane[i] > 0;
  }
  return mask;
}

}  // namespace

NetworkGrid whole_grid(const Volume& volume, const Preprocessing& spec) {
  return grid_of(volume, spec, nullptr);
}

NetworkGrid network_grid(const Volume& volume, const Preprocessing& spec) {
  check_channels(volume, spec);
  if (!spec.crop_to_nonzero && !spec.crop_above) return whole_grid(volume, spec);
  const Box box =
      content_box(channel_views(volume, network_axes(volume.affine, spec)), spec.crop_above);
  return grid_of(volume, spec, &box);
}

std::vector<ChannelView> cropped_channels(const Volume& volume, const NetworkGrid& grid) {
  std::vector<ChannelView> channels = channel_views(volume, grid.reorientation);
  for (ChannelView& channel : channels) channel = channel.cut(grid.box);
  return channels;
}

void fill_image(const Volume& volume, const Preprocessing& spec, const NetworkGrid& grid,
                const ChannelView* labels, int threads, const std::function<bool()>& cancelled,
                float* image) {
  const std::vector<ChannelView> channels = cropped_channels(volume, grid);
  const bool masked = std::any_of(spec.normalization.begin(), spec.normalization.end(),
                                  [](const Normalization& n) { return n.use_mask; });
  std::vector<uint8_t> mask;
  if (masked) mask = normalization_mask(channels, labels, threads);
  const ChannelResize resize(grid.cropped_shape(), grid.shape, grid.scan_spacing_mm,
                             grid.spacing_mm, grid.own(spec.resampling), threads);
  const int64_t voxels = voxel_count(grid.shape);
  for (std::size_t i = 0; i < channels.size(); ++i, image += voxels) {
    if (cancelled && cancelled()) throw Error(ErrorCode::cancelled, "the prediction was cancelled");
    if (spec.resample_first) {
      resize.run([&](const Box& box, float* out) { channels[i].read(box, out); }, image);
      normalize_in_place(image, grid.shape, spec.normalization[i], threads);
    } else {
      const NormalizedChannel normalized(channels[i], spec.normalization[i],
                                         masked ? mask.data() : nullptr, threads);
      resize.run([&](const Box& box, float* out) { normalized.read(box, out); }, image);
    }
    if (!all_finite(image, voxels, threads)) {
      throw Error(ErrorCode::input,
                  "channel " + std::to_string(i) +
                      " has voxels that are NaN or infinite, or too large for float32; expected "
                      "finite numbers. Repair the step that produced the scan");
    }
  }
}

}  // namespace sgmf
