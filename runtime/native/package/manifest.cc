#include "package/manifest.h"

#include <algorithm>
#include <cmath>

#include "package/manifest_checks.h"
#include "package/package_error.h"
#include "package/typed_json.h"

namespace sgmf {
namespace {

constexpr int64_t major_version = 1;
constexpr int64_t minor_version = 0;

// ------------------------------------------------------------------------------------- version

struct Version {
  int64_t major;
  int64_t minor;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Up to six digits; -1 for anything else.
int64_t parse_count(const std::string& text) {
  if (text.empty() || text.size() > 6 || !std::all_of(text.begin(), text.end(), is_digit))
    return -1;
  return std::stoll(text);
}

Version parse_version(const Json& document) {
  const auto found = document.find("format_version");
  const std::string text =
      found != document.end() && found->is_string() ? found->get<std::string>() : "";
  const std::size_t dot = std::min(text.find('.'), text.size());
  const Version version{parse_count(text.substr(0, dot)),
                        dot < text.size() ? parse_count(text.substr(dot + 1)) : -1};
  if (version.major < 0 || version.minor < 0) {
    throw PackageError("manifest.json has no proper format_version; expected \"1.0\"");
  }
  return version;
}

// Whether the manifest is of a newer minor version; refuses other major ones.
bool is_newer(const Json& document) {
  const Version version = parse_version(document);
  if (version.major != major_version) {
    throw PackageError(
        "the package has format version " + document["format_version"].get<std::string>() +
        ", this libsgmf reads " + std::to_string(major_version) + ".x; " +
        (version.major < major_version ? "export it again" : "install a newer libsgmf"));
  }
  return version.minor > minor_version;
}

// -------------------------------------------------------------------------------------- fields

std::string optional_text(const Field& object, const char* name) {
  return object.is_set(name) ? object.at(name).text() : "";
}

void check_texts(const Field& mapping) {
  for (const auto& [key, value] : mapping.mapping()) value.text();
}

std::string read_network(const Field& network) {
  network.expect_fields({"name", "config", "parameters", "checkpoint_file", "checkpoint_sha256"},
                        {"trainer", "assumptions"});
  network.at("config").mapping();
  network.at("parameters").integer();
  network.at("checkpoint_file").text();
  network.at("checkpoint_sha256").text();
  optional_text(network, "trainer");
  if (network.has("assumptions")) {
    for (const Field& entry : network.at("assumptions").list()) entry.text();
  }
  return network.at("name").text();
}

Normalization read_normalization(const Field& field) {
  field.expect_fields({"scheme"}, {"use_mask", "mean", "std", "lower", "upper"});
  const auto number = [&](const char* name) {
    return field.is_set(name) ? field.at(name).number() : std::nan("");
  };
  Normalization normalization;
  normalization.scheme = static_cast<NormalizationScheme>(field.at("scheme").one_of(
      {"zscore", "ct", "none", "rescale01", "rescale01_slices", "rgb01"}));
  if (field.has("use_mask")) normalization.use_mask = field.at("use_mask").boolean();
  normalization.mean = number("mean");
  normalization.std = number("std");
  normalization.lower = number("lower");
  normalization.upper = number("upper");
  return normalization;
}

int read_order(const Field& field) {
  return static_cast<int>(std::clamp<int64_t>(field.integer(), -1, 6));  // complaints name both
}

Resampling read_resampling(const Field& field, Resampling resampling) {
  field.expect_fields({}, {"order", "order_z", "separate_z", "anisotropy_threshold"});
  if (field.has("order")) resampling.order = read_order(field.at("order"));
  if (field.has("order_z")) resampling.order_z = read_order(field.at("order_z"));
  if (field.is_set("separate_z")) resampling.separate_z = field.at("separate_z").boolean();
  if (field.has("anisotropy_threshold")) {
    resampling.anisotropy_threshold = field.at("anisotropy_threshold").number();
  }
  return resampling;
}

// Empty for null; an empty text is none of the letters that are expected.
std::string read_orientation(const Field& preprocessing) {
  if (!preprocessing.is_set("orientation")) return "";
  const std::string codes = preprocessing.at("orientation").text();
  return codes.empty() ? "?" : codes;
}

// Callers take their volumes' spacing by it; nothing here does.
std::string read_reader(const Field& preprocessing) {
  if (!preprocessing.is_set("reader")) return "";
  const Field reader = preprocessing.at("reader");
  reader.one_of({"nibabel", "nibabel_reoriented", "simpleitk", "monai"});
  return reader.text();
}

Preprocessing read_preprocessing(const Field& field) {
  field.expect_fields({"channels", "normalization"},
                      {"orientation", "transpose_forward", "crop_to_nonzero", "spacing",
                       "resampling", "logits_resampling", "reader"});
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
  if (field.is_set("spacing")) {
    const auto axes = field.at("spacing").list(3);
    spec.spacing_mm = {axes[0].number(), axes[1].number(), axes[2].number()};
  }
  // A resampling that is spelled out has the class's defaults, not those of its place.
  const Resampling image;
  if (field.has("resampling")) spec.resampling = read_resampling(field.at("resampling"), image);
  if (field.has("logits_resampling")) {
    spec.logits_resampling = read_resampling(field.at("logits_resampling"), image);
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

// Values beyond those of labels become -1, which the complaints below refuse.
int32_t read_value(const Field& field) {
  const int64_t value = field.integer();
  return value < 0 || value > UINT16_MAX ? -1 : static_cast<int32_t>(value);
}

void read_output(const Field& field, Manifest& manifest) {
  field.expect_fields({"labels"}, {"regions"});
  for (const Field& label : field.at("labels").list()) {
    label.expect_fields({"value", "name"});
    manifest.labels.push_back({read_value(label.at("value")), label.at("name").text()});
  }
  if (!field.has("regions")) return;
  for (const Field& region : field.at("regions").list()) {
    region.expect_fields({"name", "labels", "value"});
    Region read{region.at("name").text(), {}, read_value(region.at("value"))};
    for (const Field& label : region.at("labels").list()) read.labels.push_back(read_value(label));
    manifest.regions.push_back(std::move(read));
  }
}

void check_parity(const Field& parity) {
  parity.mapping();
  for (const char* figure : {"relative_error", "label_agreement"}) {
    if (parity.is_set(figure)) parity.at(figure).number();
  }
  if (!parity.is_set("dice")) return;
  for (const auto& [label, dice] : parity.at("dice").mapping()) dice.number();
}

void check_calibration(const Field& calibration) {
  calibration.mapping();
  if (calibration.has("variants")) calibration.at("variants").mapping();
}

void read_files(const Field& document, Manifest& manifest) {
  for (const auto& [name, variant] : document.at("variants").mapping()) {
    variant.expect_fields({"file", "precision", "parity"});
    check_texts(variant.at("precision"));
    check_parity(variant.at("parity"));
    manifest.variants[name] = variant.at("file").text();
  }
  if (!document.has("files")) return;
  for (const auto& [name, record] : document.at("files").mapping()) {
    record.expect_fields({"sha256", "size"});
    manifest.files[name] = {record.at("sha256").text(), record.at("size").integer()};
  }
}

Manifest read_manifest(const Field& document) {
  document.expect_fields({"name", "network", "preprocessing", "tiling", "output", "variants",
                          "verification_tiles", "software", "created"},
                         {"files", "calibration", "format_version"});
  Manifest manifest;
  manifest.format_version = document.at("format_version").text();
  manifest.name = document.at("name").text();
  manifest.created = document.at("created").text();
  manifest.network = read_network(document.at("network"));
  manifest.spec.preprocessing = read_preprocessing(document.at("preprocessing"));
  manifest.reader = read_reader(document.at("preprocessing"));
  manifest.spec.tiling = read_tiling(document.at("tiling"));
  read_output(document.at("output"), manifest);
  read_files(document, manifest);
  document.at("verification_tiles").text();
  check_texts(document.at("software"));
  if (document.is_set("calibration")) check_calibration(document.at("calibration"));
  return manifest;
}

}  // namespace

Manifest parse_manifest(const std::string& text) {
  const Json json = load_json_object(text, "manifest.json");
  const Field document(json, "manifest", is_newer(json));
  Manifest manifest = read_manifest(document);
  check_manifest(manifest);
  for (const Label& label : manifest.labels) {
    manifest.spec.output.label_values.push_back(static_cast<uint16_t>(label.value));
  }
  for (const Region& region : manifest.regions) {
    manifest.spec.output.region_values.push_back(static_cast<uint16_t>(region.value));
  }
  return manifest;
}

}  // namespace sgmf
