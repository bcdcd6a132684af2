// Reader of packages that checks every byte before use. Mirrors runtime/package/reader.py and
// runtime/package/seal.py.
#pragma once

#include <memory>
#include <string>

#include "package/folder.h"
#include "package/manifest.h"

namespace sgmf {

// Removes the seal of a manifest's file, a digest in its first line of all others. Throws
// PackageError if there is none, or a byte differs from the sealed text.
std::string unseal(const std::string& content);

// A checked package folder.
class Package {
 public:
  // Opens a package and checks size and SHA-256 of every file in the manifest, and those of a
  // cascade's first network. Throws PackageNotFound and PackageError.
  explicit Package(const std::string& path);

  const std::string& path() const { return folder_.path(); }
  const Manifest& manifest() const { return manifest_; }
  // SHA-256 of the manifest's file, which lists that of every other.
  const std::string& manifest_sha256() const { return manifest_sha256_; }

  // The package of a cascade's first network; null if this is no cascade. Throws PackageError: it
  // is none, or does not suit this one.
  std::unique_ptr<Package> previous_stage() const;

  // Reads a listed file and checks it again: the bytes that were checked are those returned.
  std::string read(const std::string& name) const;

 private:
  struct FilesUnread {};

  // Reads the manifest alone.
  Package(const std::string& path, FilesUnread);

  void check(const std::string& name, const FileRecord& record, const Folder::Sink& sink) const;

  Folder folder_;
  std::string manifest_sha256_;
  Manifest manifest_;
};

}  // namespace sgmf
