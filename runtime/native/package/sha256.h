// SHA-256 (FIPS 180-4), written here because OpenSSL's headers are not on every machine that
// builds this, and nothing on PyPI carries others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sgmf {

class Sha256 {
 public:
  void update(const void* data, std::size_t size);
  // The digest. Ends the message: nothing may follow.
  std::array<uint8_t, 32> digest();
  // The same in lower-case hexadecimal.
  std::string hex_digest();

 private:
  void absorb(const uint8_t* block);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  uint64_t size_ = 0;  // bytes so far; those beyond the last whole block are pending
};

// The digest of a whole content, in lower-case hexadecimal.
std::string hex_sha256(const std::string& content);

}  // namespace sgmf
