#include "package/sha256.h"

#include <algorithm>
#include <cstring>

namespace sgmf {
namespace {

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
constexpr std::array<uint32_t, 64> round_constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotate(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

std::array<uint32_t, 64> schedule(const uint8_t* block) {
  std::array<uint32_t, 64> words;
  for (int t = 0; t < 16; ++t) words[t] = big_endian(block + 4 * t);
  for (int t = 16; t < 64; ++t) {
    const uint32_t early = words[t - 15];
    const uint32_t late = words[t - 2];
    words[t] = words[t - 16] + (rotate(early, 7) ^ rotate(early, 18) ^ early >> 3) + words[t - 7] +
               (rotate(late, 17) ^ rotate(late, 19) ^ late >> 10);
  }
  return words;
}

}  // namespace

void Sha256::absorb(const uint8_t* block) {
  const auto words = schedule(block);
  auto [a, b, c, d, e, f, g, h] = state_;
  for (int t = 0; t < 64; ++t) {
    const uint32_t choice = (e & f) ^ (~e & g);
    const uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
    const uint32_t first =
        h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + round_constants[t] + words[t];
    const uint32_t second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
    h = g;
    g = f;
    f = e;
    e = d + first;
    d = c;
    c = b;
    b = a;
    a = first + second;
  }
  const std::array<uint32_t, 8> added = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < added.size(); ++i) state_[i] += added[i];
}

void Sha256::update(const void* data, std::size_t size) {
  if (size == 0) return;
  const auto* bytes = static_cast<const uint8_t*>(data);
  const std::size_t waiting = size_ % pending_.size();
  size_ += size;
  if (waiting > 0) {
    const std::size_t taken = std::min(size, pending_.size() - waiting);
    std::memcpy(pending_.data() + waiting, bytes, taken);
    if (waiting + taken < pending_.size()) return;
    absorb(pending_.data());
    bytes += taken;
    size -= taken;
  }
  for (; size >= pending_.size(); bytes += pending_.size(), size -= pending_.size()) absorb(bytes);
  if (size > 0) std::memcpy(pending_.data(), bytes, size);
}

std::array<uint8_t, 32> Sha256::digest() {
  const uint64_t bits = 8 * size_;
  const std::array<uint8_t, 64> padding = {0x80};
  const std::size_t end = size_ % pending_.size();
  update(padding.data(), (end < 56 ? 56 : 120) - end);
  std::array<uint8_t, 8> length;
  for (std::size_t i = 0; i < length.size(); ++i) length[i] = uint8_t(bits >> (56 - 8 * i));
  update(length.data(), length.size());
  std::array<uint8_t, 32> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = uint8_t(state_[i / 4] >> (24 - 8 * (i % 4)));
  }
  return bytes;
}

std::string Sha256::hex_digest() {
  std::string text;
  for (const uint8_t byte : digest()) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string hex_sha256(const std::string& content) {
  Sha256 digest;
  digest.update(content.data(), content.size());
  return digest.hex_digest();
}

}  // namespace sgmf
