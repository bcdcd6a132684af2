#include "python/c_conversions.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"
#include "package/spec_json.h"

namespace sgmf {
namespace {

template <typename Read>
auto parsed(const char* text, const char* name, Read read) {
  const Json json = load_json_object(text, name);
  return read(Field(json, name, false));
}

void expect_label(int32_t value) {
  if (value < 0) throw Error(ErrorCode::argument, "a label is not one of 0 to 65535");
}

}  // namespace

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

Normalization normalization_of(const char* json) {
  const Normalization n = parsed(json, "normalization", read_normalization);
  const bool clips = n.scheme == NormalizationScheme::ct || n.scheme == NormalizationScheme::clip;
  if (clips && std::isnan(n.mean + n.std + n.lower + n.upper)) {
    throw Error(ErrorCode::argument, "ct normalisation needs mean, std, lower and upper");
  }
  return n;
}

Resampling resampling_of(const char* json) { return parsed(json, "resampling", read_resampling); }

Preprocessing preprocessing_of(const char* json) {
  const Preprocessing spec = parsed(json, "preprocessing", read_preprocessing);
  check(spec);
  return spec;
}

Tiling tiling_of(const char* json) { return parsed(json, "tiling", read_tiling); }

Output output_of(const char* json) {
  const NamedOutput named = parsed(json, "output", read_output);
  for (const Label& label : named.labels) expect_label(label.value);
  for (const Region& region : named.regions) expect_label(region.value);
  return named.values();
}

PreviousStage previous_stage_of(const char* json) {
  return parsed(json, "previous_stage", read_previous_stage);
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
  grid.centred = given.centred != 0;
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
  out->centred = grid.centred;
}

void store(const Box& box, int64_t* out) {
  for (const Range& side : box) {
    *out++ = side.begin;
    *out++ = side.end;
  }
}

std::vector<int> axes_of(const int32_t* chosen) {
  std::vector<int> axes;
  for (int axis = 0; axis < 3; ++axis) {
    if (chosen[axis]) axes.push_back(axis);
  }
  return axes;
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
