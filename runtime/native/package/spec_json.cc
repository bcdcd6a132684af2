#include "package/spec_json.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sgmf {
namespace {

int read_order(const Field& field) {
  return static_cast<int>(std::clamp<int64_t>(field.integer(), -1, 6));  // complaints name both
}

// Empty for null; an empty text is none of the letters that are expected.
std::string read_orientation(const Field& preprocessing) {
  if (!preprocessing.is_set("orientation")) return "";
  const std::string codes = preprocessing.at("orientation").text();
  return codes.empty() ? "?" : codes;
}

// Values beyond those of labels become -1, which the complaints below refuse.
int32_t read_value(const Field& field) {
  const int64_t value = field.integer();
  return value < 0 || value > UINT16_MAX ? -1 : static_cast<int32_t>(value);
}

}  // namespace

Normalization read_normalization(const Field& field) {
  field.expect_fields({"scheme"}, {"use_mask", "mean", "std", "lower", "upper"});
  const auto number = [&](const char* name) {
    return field.is_set(name) ? field.at(name).number() : std::nan("");
  };
  Normalization normalization;
  normalization.scheme = static_cast<NormalizationScheme>(
      field.at("scheme").one_of({"zscore", "ct", "none", "rescale01", "rescale01_slices", "rgb01",
                                 "clip", "zscore_nonzero"}));
  if (field.has("use_mask")) normalization.use_mask = field.at("use_mask").boolean();
  normalization.mean = number("mean");
  normalization.std = number("std");
  normalization.lower = number("lower");
  normalization.upper = number("upper");
  return normalization;
}

// What is not spelled out has the class's defaults, not those of its place.
Resampling read_resampling(const Field& field) {
  field.expect_fields(
      {}, {"order", "order_z", "separate_z", "anisotropy_threshold", "method", "alignment"});
  Resampling resampling;
  if (field.has("order")) resampling.order = read_order(field.at("order"));
  if (field.has("order_z")) resampling.order_z = read_order(field.at("order_z"));
  if (field.is_set("separate_z")) resampling.separate_z = field.at("separate_z").boolean();
  if (field.has("anisotropy_threshold")) {
    resampling.anisotropy_threshold = field.at("anisotropy_threshold").number();
  }
  if (field.has("method")) {
    resampling.method = static_cast<ResamplingMethod>(
        field.at("method").one_of({"spline", "torch", "area", "floor"}));
  }
  if (field.has("alignment")) {
    resampling.alignment = static_cast<Alignment>(
        field.at("alignment").one_of({"borders", "first_voxels", "end_voxels", "centres"}));
  }
  return resampling;
}

Preprocessing read_preprocessing(const Field& field) {
  field.expect_fields(
      {"channels", "normalization"},
      {"orientation", "transpose_forward", "crop_to_nonzero", "crop_above", "spacing", "shape",
       "resampling", "logits_resampling", "resample_first", "reader"});
  Preprocessing spec;
  for (const Field& name : field.at("channels").list()) spec.channels.push_back(name.text());
  for (const Field& entry : field.at("normalization").list()) {
    spec.normalization.push_back(read_normalization(entry));
  }
  if (field.has("orientation")) spec.orientation = read_orientation(field);
  if (field.has("transpose_forward")) {
    const auto axes = field.at("transpose_forward").list(3);
    for (std::size_t i = 0; i < 3; ++i) {
      spec.transpose_forward[i] = static_cast<int>(std::clamp<int64_t>(axes[i].integer(), -1, 3));
    }
  }
  if (field.has("crop_to_nonzero")) spec.crop_to_nonzero = field.at("crop_to_nonzero").boolean();
  if (field.is_set("crop_above")) spec.crop_above = field.at("crop_above").number();
  if (field.has("resample_first")) spec.resample_first = field.at("resample_first").boolean();
  if (field.is_set("spacing")) {
    const auto axes = field.at("spacing").list(3);
    spec.spacing_mm.emplace();
    for (std::size_t i = 0; i < 3; ++i) {
      (*spec.spacing_mm)[i] = axes[i].is_null() ? scans_own_mm : axes[i].number();
    }
  }
  if (field.is_set("shape")) {
    const auto axes = field.at("shape").list(3);
    spec.shape.emplace();
    for (std::size_t i = 0; i < 3; ++i) (*spec.shape)[i] = axes[i].integer();
  }
  if (field.has("resampling")) spec.resampling = read_resampling(field.at("resampling"));
  if (field.has("logits_resampling")) {
    spec.logits_resampling = read_resampling(field.at("logits_resampling"));
  }
  return spec;
}

Tiling read_tiling(const Field& field) {
  field.expect_fields({"tile"}, {"step", "gaussian", "mirror_axes", "scheme"});
  Tiling tiling;
  const auto tile = field.at("tile").list(3);
  for (std::size_t i = 0; i < 3; ++i) tiling.tile[i] = tile[i].integer();
  if (field.has("step")) tiling.step = field.at("step").number();
  if (field.has("gaussian")) tiling.gaussian = field.at("gaussian").boolean();
  if (field.has("mirror_axes")) {
    for (const Field& axis : field.at("mirror_axes").list()) {
      tiling.mirror_axes.push_back(static_cast<int>(std::clamp<int64_t>(axis.integer(), -1, 3)));
    }
  }
  if (field.has("scheme")) {
    tiling.scheme = static_cast<TilingScheme>(field.at("scheme").one_of({"nnunet", "monai"}));
  }
  return tiling;
}

NamedOutput read_output(const Field& field) {
  field.expect_fields({"labels"}, {"regions", "interpolated"});
  NamedOutput output;
  if (field.has("interpolated")) {
    output.interpolates_probabilities =
        field.at("interpolated").one_of({"logits", "probabilities"}) == 1;
  }
  for (const Field& label : field.at("labels").list()) {
    label.expect_fields({"value", "name"});
    output.labels.push_back({read_value(label.at("value")), label.at("name").text()});
  }
  if (!field.has("regions")) return output;
  for (const Field& region : field.at("regions").list()) {
    region.expect_fields({"name", "labels", "value"});
    Region read{region.at("name").text(), {}, read_value(region.at("value"))};
    for (const Field& label : region.at("labels").list()) read.labels.push_back(read_value(label));
    output.regions.push_back(std::move(read));
  }
  return output;
}

// Values beyond those of labels become 0, which no step may keep.
std::vector<KeepLargest> read_postprocessing(const Field& field) {
  std::vector<KeepLargest> steps;
  for (const Field& step : field.list()) {
    step.expect_fields({"keep_largest"}, {"components", "connectivity", "equals_stay"});
    steps.emplace_back();
    const auto number = [&](const char* name, int otherwise) {
      if (!step.has(name)) return otherwise;
      return static_cast<int>(std::clamp<int64_t>(step.at(name).integer(), 0, UINT16_MAX + 1));
    };
    steps.back().components = number("components", 1);
    steps.back().connectivity = number("connectivity", 3);
    if (step.has("equals_stay")) steps.back().equals_stay = step.at("equals_stay").boolean();
    for (const Field& label : step.at("keep_largest").list()) {
      steps.back().labels.push_back(static_cast<uint16_t>(std::max(read_value(label), 0)));
    }
  }
  return steps;
}

// Values beyond those of labels become 0, which no mask may have.
PreviousStage read_previous_stage(const Field& field) {
  field.expect_fields({"labels"}, {"resampling"});
  PreviousStage stage;
  for (const Field& label : field.at("labels").list()) {
    stage.labels.push_back(static_cast<uint16_t>(std::max(read_value(label), 0)));
  }
  if (field.has("resampling")) stage.resampling = read_resampling(field.at("resampling"));
  return stage;
}

Output NamedOutput::values() const {
  Output output;
  output.interpolates_probabilities = interpolates_probabilities;
  for (const Label& label : labels) {
    output.label_values.push_back(static_cast<uint16_t>(label.value));
  }
  for (const Region& region : regions) {
    output.region_values.push_back(static_cast<uint16_t>(region.value));
  }
  return output;
}

}  // namespace sgmf
