// Reader of packages that checks every byte before use. Mirrors runtime/package/reader.py and
// runtime/package/seal.py.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "package/folder.h"
#include "package/manifest.h"
#include "package/signature/check_signature.h"

namespace sgmf {

// Removes the seal of a manifest's file, a digest in its first line of all others. Throws
// PackageError if there is none, or a byte differs from the sealed text.
std::string unseal(const std::string& content);

// A checked package folder.
class Package {
 public:
  // Opens a package and checks its signature, then size and SHA-256 of every file in the manifest,
  // and those of a cascade's first network. Throws PackageNotFound and PackageError.
  Package(const std::string& path, const Trust& trust);

  const std::string& path() const { return folder_.path(); }
  const Manifest& manifest() const { return manifest_; }
  // SHA-256 of the manifest's file, which lists that of every other.
  const std::string& manifest_sha256() const { return manifest_sha256_; }

  // The trusted key that signed the package; none where no key is trusted.
  const std::optional<Signer>& signer() const { return signer_; }

  // The package of a cascade's first network; null if this is no cascade. Throws PackageError: it
  // is none, or does not suit this one.
  std::unique_ptr<Package> previous_stage() const;

  // Reads a listed file and checks it again: the bytes that were checked are those returned.
  std::string read(const std::string& name) const;

 private:
  // Reads the manifest alone; without `trust` its signature is not checked.
  Package(const std::string& path, const Trust* trust);

  void check(const std::string& name, const FileRecord& record, const Folder::Sink& sink) const;

  Folder folder_;
  std::string manifest_sha256_;
  std::optional<Signer> signer_;
  Manifest manifest_;
};

}  // namespace sgmf
