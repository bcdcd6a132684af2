// Check of who made a package: manifest.sig, a list of signatures of the manifest's file, against
// the keys that the user trusts.
#pragma once

#include <optional>
#include <string>

namespace sgmf {

constexpr const char* signature_file = "manifest.sig";
constexpr int64_t most_signature_bytes = 64 * 1024;

// What the caller asks for beyond the key rings.
struct Trust {
  std::string keys;       // file or folder of keys; empty: that of SGMF_TRUST, if it is set
  bool required = false;  // also by SGMF_REQUIRE_SIGNATURE
};

// A trusted key that signed.
struct Signer {
  std::string key_id;
  std::string name;
};

// Checks the content of manifest.json before anything in it is read. `list` is the content of
// manifest.sig, none where there is no such file. Returns nothing where no key is trusted and no
// signature required. Throws PackageError: there is no good signature of a trusted key, or the
// release is older than that key allows.
std::optional<Signer> check_signature(const std::string& manifest,
                                      const std::optional<std::string>& list, const Trust& trust);

}  // namespace sgmf
