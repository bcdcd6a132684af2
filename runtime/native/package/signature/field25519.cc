#include "package/signature/field25519.h"

namespace sgmf {
namespace {

constexpr int limb_bits = 51;
constexpr uint64_t limb_mask = (uint64_t{1} << limb_bits) - 1;

__extension__ typedef unsigned __int128 Wide;

}  // namespace

Field25519::Field25519(const Bytes32& bytes) {
  for (int bit = 0; bit < 255; ++bit) {
    const uint64_t value = bytes[static_cast<std::size_t>(bit / 8)] >> bit % 8 & 1;
    limbs_[static_cast<std::size_t>(bit / limb_bits)] |= value << bit % limb_bits;
  }
}

void Field25519::carry() {
  for (std::size_t i = 0; i < 5; ++i) {
    const uint64_t excess = limbs_[i] >> limb_bits;
    limbs_[i] &= limb_mask;
    if (i < 4) {
      limbs_[i + 1] += excess;
    } else {
      limbs_[0] += 19 * excess;  // 2^255 is 19
    }
  }
}

Bytes32 Field25519::bytes() const {
  Field25519 least = *this;
  for (int pass = 0; pass < 3; ++pass) least.carry();
  // Now below 2^255, so that at most one modulus is too much: it is if adding 19 gives bit 255.
  uint64_t excess = 19;
  for (const uint64_t limb : least.limbs_) excess = (limb + excess) >> limb_bits;
  uint64_t sum = 19 * excess;
  for (uint64_t& limb : least.limbs_) {
    sum += limb;
    limb = sum & limb_mask;
    sum >>= limb_bits;
  }
  Bytes32 result{};
  for (int bit = 0; bit < 255; ++bit) {
    const uint64_t value =
        least.limbs_[static_cast<std::size_t>(bit / limb_bits)] >> bit % limb_bits & 1;
    result[static_cast<std::size_t>(bit / 8)] |= static_cast<uint8_t>(value << bit % 8);
  }
  return result;
}

Field25519 Field25519::operator+(const Field25519& other) const {
  Field25519 sum;
  for (std::size_t i = 0; i < 5; ++i) sum.limbs_[i] = limbs_[i] + other.limbs_[i];
  sum.carry();
  return sum;
}

Field25519 Field25519::operator-(const Field25519& other) const {
  // Four moduli keep every limb above zero.
  constexpr uint64_t lowest = 4 * (limb_mask - 18), others = 4 * limb_mask;
  Field25519 difference;
  for (std::size_t i = 0; i < 5; ++i) {
    difference.limbs_[i] = limbs_[i] + (i == 0 ? lowest : others) - other.limbs_[i];
  }
  difference.carry();
  return difference;
}

Field25519 Field25519::operator*(const Field25519& other) const {
  Wide sums[5] = {};
  for (std::size_t i = 0; i < 5; ++i) {
    for (std::size_t j = 0; j < 5; ++j) {
      const uint64_t factor = i + j < 5 ? other.limbs_[j] : 19 * other.limbs_[j];
      sums[(i + j) % 5] += static_cast<Wide>(limbs_[i]) * factor;
    }
  }
  Field25519 product;
  Wide excess = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    excess += sums[i];
    product.limbs_[i] = static_cast<uint64_t>(excess) & limb_mask;
    excess >>= limb_bits;
  }
  // The excess has up to 66 bits, so 19 times it is carried in two limbs.
  excess = excess * 19 + product.limbs_[0];
  product.limbs_[0] = static_cast<uint64_t>(excess) & limb_mask;
  product.limbs_[1] += static_cast<uint64_t>(excess >> limb_bits);
  product.carry();
  return product;
}

Field25519 Field25519::power_near(int bits, unsigned below) const {
  // 2^bits - below, from its highest bit: all are ones but the lowest five.
  const unsigned lowest = 32 - below;
  Field25519 result = *this;
  for (int bit = bits - 2; bit >= 0; --bit) {
    result = result.squared();
    if (bit >= 5 || lowest >> bit & 1) result = result * *this;
  }
  return result;
}

}  // namespace sgmf
