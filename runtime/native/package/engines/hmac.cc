#include "package/engines/hmac.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "package/sha256.h"

namespace sgmf {
namespace {

constexpr std::size_t block_bytes = 64;
constexpr unsigned char outer = 0x5c;
constexpr unsigned char inner = 0x36;

std::string padded(const std::string& key, unsigned char mask) {
  std::string block(block_bytes, static_cast<char>(mask));
  for (std::size_t i = 0; i < key.size(); ++i) block[i] = static_cast<char>(key[i] ^ mask);
  return block;
}

}  // namespace

std::string hmac_sha256(const std::string& key, const std::string& message) {
  if (key.size() > block_bytes) throw std::logic_error("a key of HMAC has more than 64 bytes");
  const std::string first = padded(key, inner), second = padded(key, outer);
  Sha256 within;
  within.update(first.data(), first.size());
  within.update(message.data(), message.size());
  const std::array<uint8_t, 32> digest = within.digest();
  Sha256 around;
  around.update(second.data(), second.size());
  around.update(digest.data(), digest.size());
  return around.hex_digest();
}

bool same_in_constant_time(const std::string& a, const std::string& b) {
  if (a.size() != b.size()) return false;
  // Read through volatile, so that no compiler ends the loop at the first difference.
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  }
  return difference == 0;
}

}  // namespace sgmf
