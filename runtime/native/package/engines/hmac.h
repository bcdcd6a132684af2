// HMAC-SHA256 (RFC 2104).
#pragma once

#include <string>

namespace sgmf {

// In lower-case hexadecimal. `key` has at most 64 bytes.
std::string hmac_sha256(const std::string& key, const std::string& message);

// Whether two texts are the same, in a time that depends on their lengths alone.
bool same_in_constant_time(const std::string& a, const std::string& b);

}  // namespace sgmf
