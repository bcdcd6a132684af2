// SHA-512 (FIPS 180-4), which Ed25519 hashes with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sgmf {

class Sha512 {
 public:
  void update(const void* data, std::size_t size);
  // The digest. Ends the message, of less than 2^61 bytes: nothing may follow.
  std::array<uint8_t, 64> digest();

 private:
  void absorb(const uint8_t* block);

  // First 64 bits of the fractional parts of the square roots of the first 8 primes.
  std::array<uint64_t, 8> state_{0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                 0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
  std::array<uint8_t, 128> pending_{};
  uint64_t size_ = 0;  // bytes so far; those beyond the last whole block are pending
};

}  // namespace sgmf
