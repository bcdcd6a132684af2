// Opening packages: every byte is checked before it is believed. Mirrors runtime/package/reader.py
// and runtime/package/seal.py.
#pragma once

#include <string>

#include "package/folder.h"
#include "package/manifest.h"

namespace sgmf {

// Undoes the seal of a manifest's file, whose first line vouches for all the others. Throws
// PackageError if there is none, or a byte differs from what was sealed.
std::string unseal(const std::string& content);

// A checked package folder.
class Package {
 public:
  // Opens a package and checks size and SHA-256 of every file in the manifest. Throws
  // PackageNotFound and PackageError.
  explicit Package(const std::string& path);

  const std::string& path() const { return folder_.path(); }
  const Manifest& manifest() const { return manifest_; }
  // Of the manifest's file, which lists the SHA-256 of every other.
  const std::string& manifest_sha256() const { return manifest_sha256_; }

  // Bytes of a listed file, checked again: those that were checked are those returned.
  std::string read(const std::string& name) const;

 private:
  void check(const std::string& name, const FileRecord& record, const Folder::Sink& sink) const;

  Folder folder_;
  std::string manifest_sha256_;
  Manifest manifest_;
};

}  // namespace sgmf
