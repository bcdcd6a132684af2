#include "pipeline/spec.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "pipeline/error.h"

namespace sgmf {
namespace {

[[noreturn]] void refuse(const std::string& complaint) {
  throw Error(ErrorCode::argument, "the specification cannot be meant: " + complaint);
}

void check_orders(const Resampling& resampling, const char* name) {
  if (std::min(resampling.order, resampling.order_z) < 0 ||
      std::max(resampling.order, resampling.order_z) > 5) {
    refuse(std::string(name) + " has a spline order outside 0 to 5");
  }
  if (resampling.method != ResamplingMethod::spline &&
      std::max(resampling.order, resampling.order_z) > 1) {
    refuse(std::string(name) + " has an order above 1, which splines alone have");
  }
  if (resampling.needs_whole() && !resampling.is_whole()) {
    refuse(std::string(name) +
           " has another alignment than borders, or the method area or floor; expected an order "
           "of 0 or 1 and separate_z false");
  }
}

bool aligns_first_voxels(const Resampling& resampling) {
  return resampling.alignment == Alignment::first_voxels;
}

bool is_orientation(const std::string& codes) {
  std::string pairs;
  for (const char code : codes) {
    const std::size_t place = std::string("LRPAIS").find(code);
    if (place == std::string::npos) return false;
    pairs += "LPI"[place / 2];
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs == "ILP";
}

// Parameters that are not set are NaN.
bool is_incomplete(const Normalization& n) {
  const bool clips = n.scheme == NormalizationScheme::ct || n.scheme == NormalizationScheme::clip;
  return clips && !(!std::isnan(n.mean) && n.std > 0 && n.lower < n.upper);
}

}  // namespace

uint16_t Output::largest_value() const {
  uint16_t largest = 0;
  for (const uint16_t value : label_values) largest = std::max(largest, value);
  for (const uint16_t value : region_values) largest = std::max(largest, value);
  return largest;
}

void check(const Preprocessing& spec) {
  if (spec.normalization.empty()) refuse("there are no channels");
  if (spec.normalization.size() != spec.channels.size()) {
    refuse("normalization has " + std::to_string(spec.normalization.size()) + " entries for " +
           std::to_string(spec.channels.size()) + " channels");
  }
  for (const Normalization& normalization : spec.normalization) {
    if (is_incomplete(normalization)) {
      refuse("a normalization is ct or clip; expected mean, std above zero, lower below upper");
    }
    if (spec.resample_first && normalization.use_mask) {
      refuse("a normalization in a mask comes after resampling; expected it before");
    }
  }
  if (!spec.orientation.empty() && !is_orientation(spec.orientation)) {
    refuse("orientation is " + spec.orientation + "; expected letters such as RAS");
  }
  std::array<int, 3> order = spec.transpose_forward;
  std::sort(order.begin(), order.end());
  if (order != std::array<int, 3>{0, 1, 2}) refuse("transpose_forward is no order of 0, 1 and 2");
  if (spec.spacing_mm) {
    for (const double step : *spec.spacing_mm) {
      if (step <= 0 || std::isinf(step)) refuse("a spacing is not above zero");
    }
  }
  check_orders(spec.resampling, "resampling");
  check_orders(spec.logits_resampling, "logits_resampling");
  if (aligns_first_voxels(spec.resampling) != aligns_first_voxels(spec.logits_resampling)) {
    refuse("resampling and logits_resampling align grids in two ways");
  }
  if (spec.shape) {
    for (const int64_t extent : *spec.shape) {
      if (extent < 1) refuse("shape has an extent below one voxel");
    }
    if (spec.spacing_mm) refuse("shape comes with spacing");
    if (aligns_first_voxels(spec.resampling)) refuse("shape comes with aligned first voxels");
  }
  if (spec.crop_above && spec.crop_to_nonzero) refuse("crop_above comes with crop_to_nonzero");
}

void check(const Tiling& tiling) {
  for (const int64_t extent : tiling.tile) {
    if (extent < 1) refuse("a tile has no voxels");
  }
  if (tiling.voxels() > most_tile_voxels) refuse("a tile has more voxels than any backend takes");
  if (!(tiling.step > 0 && tiling.step <= 1)) {
    refuse("the step is " + std::to_string(tiling.step) + "; expected above 0 and at most 1");
  }
  const std::set<int> axes(tiling.mirror_axes.begin(), tiling.mirror_axes.end());
  if (axes.size() < tiling.mirror_axes.size() ||
      (!axes.empty() && (*axes.begin() < 0 || *axes.rbegin() > 2))) {
    refuse("mirror_axes; expected some of 0, 1 and 2, each once");
  }
}

void check(const Output& output) {
  if (output.label_values.empty()) refuse("there are no labels");
  if (!output.region_values.empty()) return;
  for (std::size_t i = 0; i < output.label_values.size(); ++i) {
    if (output.label_values[i] != i) refuse("labels; expected the values 0, 1 and so on");
  }
}

void check(const Spec& spec) {
  check(spec.preprocessing);
  check(spec.tiling);
  check(spec.output);
  if (spec.output.interpolates_probabilities && spec.preprocessing.logits_resampling.order > 1) {
    refuse("probabilities are interpolated by a spline of order above 1");
  }
}

}  // namespace sgmf
