#include "python/c_conversions.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace sgmf {

int32_t fail(sgmf_failure* failure, int32_t code, const char* message) {
  std::snprintf(failure->message, sizeof(failure->message), "%s", message);
  return code;
}

Affine affine_of(const double* given) {
  Affine affine;
  for (int i = 0; i < 16; ++i) affine[i / 4][i % 4] = given[i];
  return affine;
}

Volume volume_of(const sgmf_scan& given) {
  Volume volume;
  volume.voxels = given.voxels;
  volume.type = static_cast<ElementType>(given.element_type);
  volume.channels = given.channels;
  volume.shape = triple<int64_t>(given.shape);
  std::copy_n(given.strides, 4, volume.strides.begin());
  volume.affine = affine_of(given.affine);
  volume.stated_spacing_mm = stated_spacing(given.spacing_mm);
  return volume;
}

Resampling resampling_of(const sgmf_resampling& given) {
  Resampling resampling{given.order, given.order_z, {}, given.anisotropy_threshold};
  if (given.separate_z >= 0) resampling.separate_z = given.separate_z != 0;
  return resampling;
}

Normalization normalization_of(const sgmf_normalization& n) {
  return {
      static_cast<NormalizationScheme>(n.scheme), n.use_mask != 0, n.mean, n.std, n.lower, n.upper};
}

Preprocessing preprocessing_of(const sgmf_preprocessing& given) {
  Preprocessing spec;
  spec.channels.assign(given.channel_names, given.channel_names + given.channels);
  for (int64_t i = 0; i < given.channels; ++i) {
    spec.normalization.push_back(normalization_of(given.normalization[i]));
  }
  spec.orientation = given.orientation ? given.orientation : "";
  spec.transpose_forward = triple<int>(given.transpose_forward);
  spec.crop_to_nonzero = given.crop_to_nonzero != 0;
  if (given.spacing_mm) spec.spacing_mm = triple<double>(given.spacing_mm);
  spec.resampling = resampling_of(given.resampling);
  spec.logits_resampling = resampling_of(given.logits_resampling);
  check(spec);
  return spec;
}

NetworkGrid grid_of(const sgmf_network_grid& given) {
  NetworkGrid grid;
  for (int axis = 0; axis < 3; ++axis) {
    grid.reorientation.axes[axis] = given.axes[axis];
    grid.reorientation.reverse[axis] = given.reverse[axis] != 0;
    grid.box[axis] = {given.box[2 * axis], given.box[2 * axis + 1]};
  }
  grid.uncropped_shape = triple<int64_t>(given.uncropped_shape);
  grid.scan_spacing_mm = triple<double>(given.scan_spacing_mm);
  grid.spacing_mm = triple<double>(given.spacing_mm);
  grid.shape = triple<int64_t>(given.shape);
  return grid;
}

void store(const NetworkGrid& grid, sgmf_network_grid* out) {
  for (int axis = 0; axis < 3; ++axis) {
    out->axes[axis] = grid.reorientation.axes[axis];
    out->reverse[axis] = grid.reorientation.reverse[axis];
    out->uncropped_shape[axis] = grid.uncropped_shape[axis];
    out->scan_spacing_mm[axis] = grid.scan_spacing_mm[axis];
    out->spacing_mm[axis] = grid.spacing_mm[axis];
    out->shape[axis] = grid.shape[axis];
  }
  store(grid.box, out->box);
}

void store(const Box& box, int64_t* out) {
  for (const Range& side : box) {
    *out++ = side.begin;
    *out++ = side.end;
  }
}

std::vector<int> mirror_axes_of(const int32_t* mirrored) {
  std::vector<int> axes;
  for (int axis = 0; axis < 3; ++axis) {
    if (mirrored[axis]) axes.push_back(axis);
  }
  return axes;
}

Tiling tiling_of(const sgmf_tiling& given) {
  Tiling tiling;
  tiling.tile = triple<int64_t>(given.tile);
  tiling.step = given.step;
  tiling.gaussian = given.gaussian != 0;
  tiling.scheme = static_cast<TilingScheme>(given.scheme);
  tiling.mirror_axes = mirror_axes_of(given.mirror_axes);
  return tiling;
}

Output output_of(const sgmf_output& given) {
  return {{given.label_values, given.label_values + given.labels},
          {given.region_values, given.region_values + given.regions}};
}

int threads_of(int32_t threads) { return threads > 0 ? threads : available_threads(); }

Triple CallbackNetwork::logits_shape(const Triple& tile) const {
  return given_.logits_shape[0] ? triple<int64_t>(given_.logits_shape) : tile;
}

const float* CallbackNetwork::lend(const float* tiles, int64_t count) {
  const float* logits = nullptr;
  expect_zero(given_.run(user_, tiles, count, &logits));
  if (!logits) throw Stopped();  // one that did not come to its end gives none
  return logits;
}

}  // namespace sgmf
