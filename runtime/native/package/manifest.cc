#include "package/manifest.h"

#include <algorithm>
#include <utility>

#include "package/manifest_checks.h"
#include "package/package_error.h"
#include "package/spec_json.h"
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
                        {"trainer", "assumptions", "licence"});
  network.at("config").mapping();
  network.at("parameters").integer();
  network.at("checkpoint_file").text();
  network.at("checkpoint_sha256").text();
  optional_text(network, "trainer");
  optional_text(network, "licence");
  if (network.has("assumptions")) {
    for (const Field& entry : network.at("assumptions").list()) entry.text();
  }
  return network.at("name").text();
}

// Callers take their volumes' spacing by it; nothing here does.
std::string read_reader(const Field& preprocessing) {
  if (!preprocessing.is_set("reader")) return "";
  const Field reader = preprocessing.at("reader");
  reader.one_of({"nibabel", "nibabel_reoriented", "simpleitk", "monai"});
  return reader.text();
}

void check_parity(const Field& parity) {
  parity.mapping();
  for (const char* figure : {"relative_error", "label_agreement", "scans", "scan_error",
                             "recorded_tiles", "recorded_error"}) {
    if (parity.is_set(figure)) parity.at(figure).number();
  }
  if (!parity.is_set("dice")) return;
  for (const auto& [label, dice] : parity.at("dice").mapping()) dice.number();
}

void check_calibration(const Field& calibration) {
  calibration.mapping();
  if (calibration.has("variants")) calibration.at("variants").mapping();
}

void check_code(const Field& code) {
  code.expect_fields({"scheme", "value", "meaning"});
  check_texts(code);
}

// Only DICOM results need codes, and nothing here writes those.
void check_codes(const Field& codes) {
  for (const auto& [label, parts] : codes.mapping()) {
    parts.expect_fields({"category", "type"}, {"modifier"});
    check_code(parts.at("category"));
    check_code(parts.at("type"));
    if (parts.is_set("modifier")) check_code(parts.at("modifier"));
  }
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
                         {"files", "calibration", "codes", "previous_stage", "postprocessing",
                          "release", "format_version"});
  Manifest manifest;
  manifest.format_version = document.at("format_version").text();
  manifest.name = document.at("name").text();
  if (document.is_set("release")) manifest.release = document.at("release").integer();
  manifest.created = document.at("created").text();
  manifest.network = read_network(document.at("network"));
  manifest.spec.preprocessing = read_preprocessing(document.at("preprocessing"));
  manifest.reader = read_reader(document.at("preprocessing"));
  manifest.spec.tiling = read_tiling(document.at("tiling"));
  NamedOutput output = read_output(document.at("output"));
  manifest.spec.output = output.values();
  manifest.labels = std::move(output.labels);
  manifest.regions = std::move(output.regions);
  if (document.has("postprocessing")) {
    manifest.spec.postprocessing = read_postprocessing(document.at("postprocessing"));
  }
  if (document.is_set("previous_stage")) {
    manifest.spec.previous_stage = read_previous_stage(document.at("previous_stage"));
  }
  read_files(document, manifest);
  document.at("verification_tiles").text();
  check_texts(document.at("software"));
  if (document.has("codes")) check_codes(document.at("codes"));
  if (document.is_set("calibration")) check_calibration(document.at("calibration"));
  return manifest;
}

}  // namespace

Manifest parse_manifest(const std::string& text) {
  const Json json = load_json_object(text, "manifest.json");
  const Field document(json, "manifest", is_newer(json));
  Manifest manifest = read_manifest(document);
  check_manifest(manifest);
  return manifest;
}

}  // namespace sgmf
