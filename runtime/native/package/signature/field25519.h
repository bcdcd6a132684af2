// Integers modulo 2^255 - 19, the coordinates of Ed25519's points.
#pragma once

#include <array>
#include <cstdint>

namespace sgmf {

using Bytes32 = std::array<uint8_t, 32>;

// Five limbs of 51 bits, the lowest first; each may exceed 51 bits by a little between operations.
class Field25519 {
 public:
  constexpr Field25519() = default;
  explicit Field25519(uint64_t small) : limbs_{small, 0, 0, 0, 0} {}
  // From 255 bits, little-endian; the topmost bit is passed over.
  explicit Field25519(const Bytes32& bytes);

  // The one representative below 2^255 - 19.
  Bytes32 bytes() const;
  bool is_zero() const { return bytes() == Bytes32{}; }
  // Whether the representative is odd, which Ed25519 calls negative.
  bool is_odd() const { return bytes()[0] & 1; }

  Field25519 operator+(const Field25519& other) const;
  Field25519 operator-(const Field25519& other) const;
  Field25519 operator-() const { return Field25519() - *this; }
  Field25519 operator*(const Field25519& other) const;
  bool operator==(const Field25519& other) const { return bytes() == other.bytes(); }

  Field25519 squared() const { return *this * *this; }
  // To the power of 2^bits - below.
  Field25519 power_near(int bits, unsigned below) const;
  // Of zero: zero.
  Field25519 inverse() const { return power_near(255, 21); }

 private:
  void carry();

  std::array<uint64_t, 5> limbs_{};
};

}  // namespace sgmf
