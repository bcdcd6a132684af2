// The keys whose signatures a user trusts: those of the system's key ring, of the user's, and of a
// path that the caller names.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "package/signature/field25519.h"

namespace sgmf {

struct TrustedKey {
  std::string name;
  Bytes32 key;
  std::string not_after;  // the last day, as 2028-12-31; empty without an end
  bool revoked;
  std::map<std::string, int64_t> least_releases;  // by the names of packages
};

// By their ids. Of a key that stands in several places the strictest holds.
using TrustedKeys = std::map<std::string, TrustedKey>;

// SHA-256 of a public key, in lower-case hexadecimal.
std::string key_id(const Bytes32& key);

// Reads the content of a key's file, which messages call `place`. Throws PackageError.
TrustedKey parse_trusted_key(const std::string& content, const std::string& place);

// Reads the key rings, and a file or folder `named` by the caller, or by the environment variable
// SGMF_TRUST where that is empty. Throws PackageError: a file is no key, or can be written by
// others than the user and root.
TrustedKeys read_trusted_keys(const std::string& named);

}  // namespace sgmf
