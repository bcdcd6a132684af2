// Bytes from their hexadecimal digits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace sgmf {

// Of lower-case digits, two for each byte; none for anything else.
template <std::size_t N>
std::optional<std::array<uint8_t, N>> from_hex(const std::string& digits) {
  if (digits.size() != 2 * N) return std::nullopt;
  std::array<uint8_t, N> bytes{};
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const std::size_t value = std::string("0123456789abcdef").find(digits[i]);
    if (value == std::string::npos) return std::nullopt;
    bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] << 4 | value);
  }
  return bytes;
}

}  // namespace sgmf
