// The package's C++ as functions that Python's tests can call.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "package/package.h"
#include "package/package_error.h"
#include "package/sha256.h"

#define VISIBLE extern "C" __attribute__((visibility("default")))

namespace {

class Lines {
 public:
  void add(const char* name, const std::string& value) {
    text_ += std::string(name) + "=" + value + "\n";
  }
  void add(const char* name, double value) {
    char number[40];
    std::snprintf(number, sizeof number, "%.17g", value);
    add(name, std::string(number));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void add(Lines& lines, const sgmf::Resampling& resampling) {
  lines.add("order", resampling.order);
  lines.add("order_z", resampling.order_z);
  lines.add("separate_z", resampling.separate_z ? (*resampling.separate_z ? 1 : 0) : -1);
  lines.add("threshold", resampling.anisotropy_threshold);
  lines.add("alignment", static_cast<int>(resampling.alignment));
  lines.add("method", static_cast<int>(resampling.method));
}

void add(Lines& lines, const sgmf::Preprocessing& spec) {
  for (const std::string& name : spec.channels) lines.add("channel", name);
  for (const sgmf::Normalization& each : spec.normalization) {
    const bool ct = each.scheme == sgmf::NormalizationScheme::ct ||
                    each.scheme == sgmf::NormalizationScheme::clip;
    lines.add("scheme", static_cast<int>(each.scheme));
    lines.add("use_mask", each.use_mask);
    for (const double value : {each.mean, each.std, each.lower, each.upper}) {
      lines.add("ct", ct ? value : 0);
    }
  }
  lines.add("orientation", spec.orientation);
  for (const int axis : spec.transpose_forward) lines.add("transpose_forward", axis);
  lines.add("crop", spec.crop_to_nonzero);
  if (spec.crop_above) lines.add("crop_above", *spec.crop_above);
  lines.add("resample_first", spec.resample_first);
  for (const double step : spec.spacing_mm.value_or(sgmf::Spacing{})) {
    lines.add("spacing", std::isnan(step) ? -1 : step);
  }
  for (const int64_t extent : spec.shape.value_or(sgmf::Triple{})) {
    lines.add("shape", static_cast<double>(extent));
  }
  add(lines, spec.resampling);
  add(lines, spec.logits_resampling);
}

std::string summary(const sgmf::Manifest& manifest) {
  Lines lines;
  lines.add("name", manifest.name);
  add(lines, manifest.spec.preprocessing);
  lines.add("reader", manifest.reader);
  const sgmf::Tiling& tiling = manifest.spec.tiling;
  for (const int64_t extent : tiling.tile) lines.add("tile", static_cast<double>(extent));
  lines.add("step", tiling.step);
  lines.add("gaussian", tiling.gaussian);
  for (const int axis : tiling.mirror_axes) lines.add("mirror", axis);
  lines.add("tiling", static_cast<int>(tiling.scheme));
  for (const sgmf::Label& label : manifest.labels) {
    lines.add("label", label.value);
    lines.add("label", label.name);
  }
  for (const uint16_t value : manifest.spec.output.region_values) lines.add("paints", value);
  lines.add("probabilities", manifest.spec.output.interpolates_probabilities);
  for (const sgmf::KeepLargest& step : manifest.spec.postprocessing) {
    for (const uint16_t label : step.labels) lines.add("keeps", label);
    lines.add("components", step.components);
    lines.add("connectivity", step.connectivity);
    lines.add("equals_stay", step.equals_stay);
  }
  if (const auto& stage = manifest.spec.previous_stage) {
    for (const uint16_t label : stage->labels) lines.add("mask", label);
    add(lines, stage->resampling);
  }
  for (const auto& [name, file] : manifest.variants) lines.add(name.c_str(), file);
  return lines.text();
}

// 0 and a summary, 1 and what is refused, 2 and what is not there.
template <typename F>
int verdict(char* text, size_t size, F&& body) {
  try {
    std::snprintf(text, size, "%s", body().c_str());
    return 0;
  } catch (const sgmf::PackageError& error) {
    std::snprintf(text, size, "%s", error.what());
    return 1;
  } catch (const sgmf::PackageNotFound& error) {
    std::snprintf(text, size, "%s", error.what());
    return 2;
  }
}

}  // namespace

VISIBLE void test_sha256(const char* bytes, size_t size, size_t piece, char* digest) {
  sgmf::Sha256 hash;
  for (size_t done = 0; done < size; done += piece) {
    hash.update(bytes + done, size - done < piece ? size - done : piece);
  }
  std::strcpy(digest, hash.hex_digest().c_str());
}

VISIBLE int test_manifest(const char* bytes, size_t size, char* text, size_t text_size) {
  return verdict(text, text_size,
                 [&] { return summary(sgmf::parse_manifest(std::string(bytes, size))); });
}

VISIBLE int test_package(const char* path, char* text, size_t text_size) {
  return verdict(text, text_size,
                 [&] { return summary(sgmf::Package(path, sgmf::Trust{}).manifest()); });
}
