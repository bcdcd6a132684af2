#include "package/package.h"

#include "package/package_error.h"
#include "package/sha256.h"

namespace sgmf {
namespace {

constexpr const char* manifest_file = "manifest.json";
constexpr int64_t max_manifest_bytes = 16 * 1024 * 1024;
constexpr const char* remedy = "it was damaged or altered: copy or export the package again";

std::string read_manifest(const Folder& folder) {
  if (!folder.has(manifest_file)) {
    throw PackageError(folder.path() + " is no package: it has no " + manifest_file);
  }
  std::string content;
  folder.read(manifest_file, max_manifest_bytes + 1,
              [&](const char* bytes, std::size_t size) { content.append(bytes, size); });
  if (content.size() > max_manifest_bytes) {
    throw PackageError(folder.path() + "/manifest.json is larger than 16 MiB, no manifest is");
  }
  return content;
}

std::optional<std::string> read_signatures(const Folder& folder) {
  if (!folder.has(signature_file)) return std::nullopt;
  std::string content;
  folder.read(signature_file, most_signature_bytes + 1,
              [&](const char* bytes, std::size_t size) { content.append(bytes, size); });
  return content;
}

// What `body` returns; its refusals name the folder.
template <typename F>
auto naming(const Folder& folder, F&& body) {
  try {
    return body();
  } catch (const PackageError& error) {
    throw PackageError(folder.path() + ": " + error.what());
  }
}

// Why two networks are no cascade; empty if they are.
std::string stage_complaint(const Manifest& first, const Manifest& second) {
  if (first.spec.previous_stage) return "it is a cascade itself; expected one network";
  if (first.spec.preprocessing.channels != second.spec.preprocessing.channels) {
    return "it takes other channels";
  }
  const bool same_output =
      first.labels == second.labels && first.regions == second.regions &&
      first.spec.output.interpolates_probabilities == second.spec.output.interpolates_probabilities;
  if (!same_output) return "it has other labels";
  for (const auto& [name, record] : first.files) {
    const std::string listed = "previous_stage/" + name;
    if (!second.files.count(listed)) return "the manifest does not list " + listed;
  }
  return "";
}

}  // namespace

std::string unseal(const std::string& content) {
  const std::string before = "{\n  \"manifest_sha256\": \"";
  const std::string after = "\",\n";
  constexpr std::size_t digits = 64;
  const std::size_t end = before.size() + digits + after.size();
  const bool sealed = content.compare(0, before.size(), before) == 0 && content.size() >= end &&
                      content.compare(before.size() + digits, after.size(), after) == 0;
  if (!sealed) {
    throw PackageError(
        "manifest.json does not begin with its manifest_sha256; it was damaged or altered, or the "
        "folder is no package: copy or export it again");
  }
  const std::string text = "{\n" + content.substr(end);
  if (hex_sha256(text) != content.substr(before.size(), digits)) {
    throw PackageError(
        "manifest.json does not have the SHA-256 that its first line states; it was damaged or "
        "altered: copy or export the package again");
  }
  return text;
}

Package::Package(const std::string& path, const Trust* trust) : folder_(path) {
  const std::string content = read_manifest(folder_);
  if (trust) {
    const std::optional<std::string> signatures = read_signatures(folder_);
    signer_ = naming(folder_, [&] { return check_signature(content, signatures, *trust); });
  }
  manifest_sha256_ = hex_sha256(content);
  manifest_ = naming(folder_, [&] { return parse_manifest(unseal(content)); });
}

Package::Package(const std::string& path, const Trust& trust) : Package(path, &trust) {
  for (const auto& [name, record] : manifest_.files) {
    check(name, record, [](const char*, std::size_t) {});
  }
  previous_stage();
}

std::unique_ptr<Package> Package::previous_stage() const {
  if (!manifest_.spec.previous_stage) return nullptr;
  // Its files are among those of this package, which are checked at opening.
  std::unique_ptr<Package> first(new Package(path() + "/previous_stage", nullptr));
  std::string complaint = stage_complaint(first->manifest(), manifest_);
  if (first->manifest_sha256() != manifest_.files.at(previous_stage_manifest).sha256) {
    complaint = std::string("its manifest.json was exchanged; ") + remedy;
  }
  if (complaint.empty()) return first;
  throw PackageError(first->path() + " is no first stage of " + path() + ": " + complaint);
}

std::string Package::read(const std::string& name) const {
  const auto found = manifest_.files.find(name);
  if (found == manifest_.files.end()) {
    throw PackageError(name + " is not listed in the manifest of " + folder_.path());
  }
  std::string content;
  check(name, found->second,
        [&](const char* bytes, std::size_t size) { content.append(bytes, size); });
  return content;
}

void Package::check(const std::string& name, const FileRecord& record,
                    const Folder::Sink& sink) const {
  Sha256 digest;
  int64_t size = 0;
  // One byte more than stated is enough to know that a file is too long.
  const int64_t limit = record.size < INT64_MAX ? record.size + 1 : record.size;
  folder_.read(name, limit, [&](const char* bytes, std::size_t count) {
    digest.update(bytes, count);
    size += static_cast<int64_t>(count);
    sink(bytes, count);
  });
  const std::string file = folder_.path() + "/" + name;
  if (size != record.size) {
    throw PackageError(file + " does not have the " + std::to_string(record.size) +
                       " bytes that its manifest states; " + remedy);
  }
  if (digest.hex_digest() != record.sha256) {
    throw PackageError(file + " does not have the SHA-256 that its manifest states; " + remedy);
  }
}

}  // namespace sgmf
