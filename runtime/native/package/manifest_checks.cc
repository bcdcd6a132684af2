#include "package/manifest_checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "package/package_error.h"
#include "package/printable.h"

namespace sgmf {
namespace {

using Complaints = std::vector<std::string>;

bool is_complete(const Normalization& n) {
  if (n.scheme != NormalizationScheme::ct && n.scheme != NormalizationScheme::clip) return true;
  return !std::isnan(n.mean) && n.std > 0 && n.lower < n.upper;  // unset ones are NaN
}

bool is_orientation(const std::string& codes) {
  const auto has_one_of = [&](const char* pair) {
    return codes.find_first_of(pair) != std::string::npos;
  };
  return codes.size() == 3 && has_one_of("LR") && has_one_of("PA") && has_one_of("IS");
}

bool has_orders(const Resampling& resampling) {
  const int most = resampling.method == ResamplingMethod::spline ? 5 : 1;
  return std::min(resampling.order, resampling.order_z) >= 0 &&
         std::max(resampling.order, resampling.order_z) <= most;
}

void check_preprocessing(const Preprocessing& spec, Complaints& complaints) {
  if (spec.channels.empty()) complaints.push_back("preprocessing.channels is empty");
  if (spec.normalization.size() != spec.channels.size()) {
    complaints.push_back("preprocessing.normalization has " +
                         std::to_string(spec.normalization.size()) + " entries for " +
                         std::to_string(spec.channels.size()) + " channels");
  }
  for (std::size_t i = 0; i < spec.normalization.size(); ++i) {
    const Normalization& each = spec.normalization[i];
    const std::string name = "preprocessing.normalization[" + std::to_string(i) + "]";
    if (!is_complete(each)) {
      complaints.push_back(name +
                           " is ct or clip; expected mean, std above zero, and lower below upper");
    }
    if (spec.resample_first && each.use_mask) {
      complaints.push_back(name + " is in a mask, which resample_first does not allow");
    }
  }
  if (spec.crop_above && spec.crop_to_nonzero) {
    complaints.push_back("preprocessing has crop_above beside crop_to_nonzero");
  }
  if (!spec.orientation.empty() && !is_orientation(spec.orientation)) {
    complaints.push_back("preprocessing.orientation is no three letters such as RAS");
  }
  auto axes = spec.transpose_forward;
  std::sort(axes.begin(), axes.end());
  if (axes != std::array<int, 3>{0, 1, 2}) {
    complaints.push_back("preprocessing.transpose_forward is not made of 0, 1 and 2");
  }
  const Spacing spacing_mm = spec.spacing_mm.value_or(Spacing{1, 1, 1});
  if (std::any_of(spacing_mm.begin(), spacing_mm.end(), [](double step) { return step <= 0; })) {
    complaints.push_back("preprocessing.spacing is not above zero; expected millimetres");
  }
  for (const Resampling& each : {spec.resampling, spec.logits_resampling}) {
    if (has_orders(each)) continue;
    complaints.push_back(
        "preprocessing has an order outside 0 to 5, or to 1 where the method is no spline");
  }
  for (const Resampling& each : {spec.resampling, spec.logits_resampling}) {
    if (each.alignment == Alignment::centres) {
      complaints.push_back("preprocessing aligns centres, which single scans alone do");
    }
    if (!each.needs_whole() || each.is_whole()) continue;
    complaints.push_back(
        "preprocessing has another alignment than borders, or the method area or floor; expected "
        "an order of 0 or 1 and separate_z false");
  }
  const bool first_voxels = spec.resampling.alignment == Alignment::first_voxels;
  if (first_voxels != (spec.logits_resampling.alignment == Alignment::first_voxels)) {
    complaints.push_back("preprocessing aligns the grids of image and logits in two ways");
  }
  if (!spec.shape) return;
  if (*std::min_element(spec.shape->begin(), spec.shape->end()) < 1) {
    complaints.push_back("preprocessing.shape has an extent below one voxel");
  }
  if (spec.spacing_mm || first_voxels) {
    complaints.push_back("preprocessing.shape comes with spacing or aligned first voxels");
  }
}

void check_tiling(const Tiling& tiling, Complaints& complaints) {
  if (*std::min_element(tiling.tile.begin(), tiling.tile.end()) <= 0) {
    complaints.push_back("tiling.tile has an extent of zero or less; expected voxels above zero");
  }
  if (tiling.voxels() > most_tile_voxels) {
    complaints.push_back("tiling.tile has more voxels than any backend takes; expected at most " +
                         std::to_string(static_cast<int64_t>(most_tile_voxels)));
  }
  if (!(tiling.step > 0 && tiling.step <= 1)) {
    complaints.push_back("tiling.step is " + std::to_string(tiling.step) +
                         "; expected a part of the tile, above 0 and at most 1");
  }
  const auto& axes = tiling.mirror_axes;
  const bool known =
      std::all_of(axes.begin(), axes.end(), [](int axis) { return axis >= 0 && axis < 3; });
  if (!known || std::set<int>(axes.begin(), axes.end()).size() < axes.size()) {
    complaints.push_back("tiling.mirror_axes are not some of 0, 1 and 2, each once");
  }
}

void check_output(const Manifest& manifest, Complaints& complaints) {
  if (manifest.spec.output.interpolates_probabilities &&
      manifest.spec.preprocessing.logits_resampling.order > 1) {
    complaints.push_back("output.interpolated is probabilities; expected splines of order 0 or 1");
  }
  std::set<int32_t> values;
  bool counted = manifest.labels.size() >= 2;
  for (const Label& label : manifest.labels) {
    counted = counted && label.value == static_cast<int32_t>(values.size());
    values.insert(label.value);
  }
  if (values.size() < manifest.labels.size() || (!values.empty() && *values.begin() < 0)) {
    complaints.push_back("output.labels have other values than different ones from 0 to 65535");
  }
  if (manifest.regions.empty() && !counted) {
    complaints.push_back(
        "output.labels do not have the values 0, 1 and so on, as expected without regions");
  }
  for (const Region& region : manifest.regions) {
    if (region.value > 0 && values.count(region.value)) continue;
    complaints.push_back("a region of output.regions paints a value that is no label above 0");
  }
}

void check_postprocessing(const Manifest& manifest, Complaints& complaints) {
  std::set<int32_t> values;
  for (const Label& label : manifest.labels) values.insert(label.value);
  for (const KeepLargest& step : manifest.spec.postprocessing) {
    const bool known = std::all_of(step.labels.begin(), step.labels.end(), [&](uint16_t label) {
      return label > 0 && values.count(label);
    });
    if (!known || step.labels.empty()) {
      complaints.push_back(
          "a step of postprocessing keeps other labels than those above 0 of output");
    }
    if (step.components < 1 || step.components > UINT16_MAX || step.connectivity < 1 ||
        step.connectivity > 3) {
      complaints.push_back(
          "a step of postprocessing keeps no components from 1 to 65535 of a connectivity from 1 "
          "to 3");
    }
  }
}

void check_previous_stage(const Manifest& manifest, Complaints& complaints) {
  if (!manifest.spec.previous_stage) return;
  const auto& [labels, resampling] = *manifest.spec.previous_stage;
  const std::set<uint16_t> values(labels.begin(), labels.end());
  if (values.empty() || values.size() < labels.size() || *values.begin() == 0) {
    complaints.push_back("previous_stage.labels are not different ones above 0");
  }
  if (resampling.order < 0 || resampling.order > 1 || resampling.order_z != 0) {
    complaints.push_back("previous_stage.resampling is no order 0 or 1 with order_z 0");
  }
  if (!manifest.files.count(previous_stage_manifest)) {
    complaints.push_back(
        "files does not list previous_stage/manifest.json, the package of "
        "previous_stage");
  }
}

bool is_word(const std::string& part) {
  constexpr const char* first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  return !part.empty() && std::strchr(first, part[0]) && part[0] != '\0' &&
         part.find_first_not_of(std::string(first) + ".-") == std::string::npos;
}

// Words with single slashes between them: no way out of the folder.
bool is_plain_name(const std::string& name) {
  std::size_t start = 0;
  for (;;) {
    const std::size_t slash = name.find('/', start);
    if (!is_word(name.substr(start, slash - start))) return false;
    if (slash == std::string::npos) return true;
    start = slash + 1;
  }
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void check_files(const Manifest& manifest, Complaints& complaints) {
  if (!manifest.variants.count("fp32")) complaints.push_back("variants lacks fp32");
  for (const auto& [name, file] : manifest.variants) {
    if (manifest.files.count(file)) continue;
    complaints.push_back("files does not list the file of variant " + printable(name, 80));
  }
  if (manifest.files.count("manifest.sig")) {
    complaints.push_back("files lists manifest.sig, which signs the manifest");
  }
  for (const auto& [name, record] : manifest.files) {
    if (!is_plain_name(name)) {
      complaints.push_back("files lists a name that may lead out of the package: " +
                           printable(name, 80));
    }
    if (!is_sha256(record.sha256) || record.size < 0) {
      complaints.push_back("files has a record without proper sha256 and size");
    }
  }
}

}  // namespace

void check_manifest(const Manifest& manifest) {
  Complaints complaints;
  check_preprocessing(manifest.spec.preprocessing, complaints);
  check_tiling(manifest.spec.tiling, complaints);
  check_output(manifest, complaints);
  check_postprocessing(manifest, complaints);
  check_previous_stage(manifest, complaints);
  check_files(manifest, complaints);
  if (complaints.empty()) return;
  std::string text;
  for (const std::string& complaint : complaints) text += (text.empty() ? "" : "; ") + complaint;
  throw PackageError("manifest.json contradicts itself: " + text);
}

}  // namespace sgmf
