#include "package/signature/ed25519.h"

#include <algorithm>
#include <optional>

#include "package/signature/sha512.h"

namespace sgmf {
namespace {

using Field = Field25519;

// A point of -x^2 + y^2 = 1 + d x^2 y^2, with x = X/Z, y = Y/Z and T = XY/Z.
struct Point {
  Field x, y, z, t;
};

// Numbers of the curve, from their definitions.
struct Curve {
  Field d = -Field(121665) * Field(121666).inverse();
  Field root_of_minus_1 = root();

 private:
  // 2 to the power of (p - 1) / 4, which is 2^253 - 5.
  static Field root() { return Field(2).power_near(253, 5); }
};

const Curve& curve() {
  static const Curve numbers;
  return numbers;
}

Point negated(const Point& p) { return {-p.x, p.y, p.z, -p.t}; }

// Complete formulas for a = -1 of Hisil, Wong, Carter and Dawson (2008): right for every pair.
Point sum(const Point& p, const Point& q) {
  const Field a = (p.y - p.x) * (q.y - q.x), b = (p.y + p.x) * (q.y + q.x);
  const Field tt = p.t * q.t * curve().d, zz = p.z * q.z;
  const Field c = tt + tt, d = zz + zz;
  const Field e = b - a, f = d - c, g = d + c, h = b + a;
  return {e * f, g * h, f * g, e * h};
}

Point doubled(const Point& p) {
  const Field a = p.x.squared(), b = p.y.squared(), zz = p.z.squared();
  const Field h = a + b, e = h - (p.x + p.y).squared(), g = a - b, f = zz + zz + g;
  return {e * f, g * h, f * g, e * h};
}

bool is_of_small_order(const Point& p) {
  const Point eightfold = doubled(doubled(doubled(p)));
  return eightfold.x.is_zero() && eightfold.y == eightfold.z;
}

Bytes32 encoded(const Field& x, const Field& y) {
  Bytes32 bytes = y.bytes();
  if (x.is_odd()) bytes[31] |= 0x80;
  return bytes;
}

Bytes32 encoded(const Point& p) {
  const Field inverse = p.z.inverse();
  return encoded(p.x * inverse, p.y * inverse);
}

// The point that 32 bytes encode; none where they are not the encoding of one.
std::optional<Point> decoded(const Bytes32& bytes) {
  const Field y(bytes), one(1);
  const Field u = y.squared() - one, v = curve().d * y.squared() + one;
  // A root of u / v, if there is one: u v^3 (u v^7)^((p - 5) / 8), or that by the root of -1.
  const Field v3 = v.squared() * v;
  Field x = u * v3 * (u * v3.squared() * v).power_near(252, 3);
  if (!(v * x.squared() == u)) x = x * curve().root_of_minus_1;
  if (!(v * x.squared() == u)) return std::nullopt;
  if (x.is_odd() != (bytes[31] >> 7 == 1)) x = -x;
  // Not the same for y beyond the modulus, and for a negative zero.
  if (encoded(x, y) != bytes) return std::nullopt;
  return Point{x, y, one, x * y};
}

// y is 4/5 and x even.
const Point& base_point() {
  static const Point point = *decoded((Field(4) * Field(5).inverse()).bytes());
  return point;
}

using Scalar = std::array<uint64_t, 4>;  // the lowest first

// Order of the base point: 2^252 + 27742317777372353535851937790883648493.
constexpr Scalar order = {0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000};

bool is_reduced(const Scalar& value) {
  return std::lexicographical_compare(value.rbegin(), value.rend(), order.rbegin(), order.rend());
}

bool bit_of(const uint8_t* bytes, int bit) { return bytes[bit / 8] >> bit % 8 & 1; }

// A number of 512 bits, little-endian, modulo the order.
Scalar reduced(const std::array<uint8_t, 64>& number) {
  Scalar rest{};
  for (int bit = 511; bit >= 0; --bit) {
    uint64_t carried = bit_of(number.data(), bit);
    for (uint64_t& limb : rest) {
      const uint64_t above = limb >> 63;
      limb = limb << 1 | carried;
      carried = above;
    }
    if (is_reduced(rest)) continue;
    uint64_t borrowed = 0;
    for (std::size_t i = 0; i < rest.size(); ++i) {
      const uint64_t before = rest[i];
      rest[i] = before - order[i] - borrowed;
      borrowed = before < order[i] || (before == order[i] && borrowed);
    }
  }
  return rest;
}

bool bit_of(const Scalar& scalar, int bit) {
  return scalar[static_cast<std::size_t>(bit / 64)] >> bit % 64 & 1;
}

// a p + b q, by doubling what both have in common.
Point combined(const Scalar& a, const Point& p, const Scalar& b, const Point& q) {
  const Point both = sum(p, q);
  Point result{Field(0), Field(1), Field(1), Field(0)};
  for (int bit = 252; bit >= 0; --bit) {
    result = doubled(result);
    const bool with_p = bit_of(a, bit), with_q = bit_of(b, bit);
    if (with_p || with_q) result = sum(result, with_p && with_q ? both : with_p ? p : q);
  }
  return result;
}

Scalar to_scalar(const uint8_t* bytes) {
  Scalar scalar{};
  for (std::size_t i = 0; i < 32; ++i)
    scalar[i / 8] |= static_cast<uint64_t>(bytes[i]) << i % 8 * 8;
  return scalar;
}

}  // namespace

bool is_public_key(const Bytes32& key) {
  const std::optional<Point> point = decoded(key);
  return point && !is_of_small_order(*point);
}

bool has_signed(const Bytes32& key, const void* message, std::size_t size,
                const Signature& signature) {
  Bytes32 commitment;
  std::copy_n(signature.begin(), commitment.size(), commitment.begin());
  const Scalar response = to_scalar(signature.data() + commitment.size());
  if (!is_reduced(response)) return false;
  const std::optional<Point> signer = decoded(key);
  if (!signer || is_of_small_order(*signer)) return false;
  Sha512 hash;
  hash.update(commitment.data(), commitment.size());
  hash.update(key.data(), key.size());
  hash.update(message, size);
  const Scalar challenge = reduced(hash.digest());
  const Point expected = combined(response, base_point(), challenge, negated(*signer));
  return !is_of_small_order(expected) && encoded(expected) == commitment;
}

}  // namespace sgmf
