// Texts from untrusted files, for messages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

namespace sgmf {

// The beginning of a text, with anything but printable ASCII replaced.
inline std::string printable(std::string text, std::size_t longest) {
  text.resize(std::min(text.size(), longest));
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

// Whether a code point may control a terminal or reverse text: those of Unicode's categories Cc,
// Cf, Cs, Zl and Zp, and numbers that are no code point.
inline bool is_unprintable(uint32_t code) {
  constexpr uint32_t kRanges[][2] = {
      {0x0, 0x1f},           {0x7f, 0x9f},       {0xad, 0xad},       {0x600, 0x605},
      {0x61c, 0x61c},        {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},
      {0x8e2, 0x8e2},        {0x180e, 0x180e},   {0x200b, 0x200f},   {0x2028, 0x202e},
      {0x2060, 0x2064},      {0x2066, 0x206f},   {0xd800, 0xdfff},   {0xfeff, 0xfeff},
      {0xfff9, 0xfffb},      {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f},
      {0x1bca0, 0x1bca3},    {0x1d173, 0x1d17a}, {0xe0001, 0xe0001}, {0xe0020, 0xe007f},
      {0x110000, UINT32_MAX}};
  return std::any_of(std::begin(kRanges), std::end(kRanges), [&](const uint32_t(&range)[2]) {
    return range[0] <= code && code <= range[1];
  });
}

// Length in bytes of the UTF-8 character that begins here; `code` is what it stands for, or no code
// point where the bytes are not UTF-8. The text ends with NUL.
inline std::size_t decode_utf8(const char* text, uint32_t& code) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  code = byte(0);
  if (code < 0x80) return 1;
  const std::size_t length = code >= 0xf0 ? 4 : code >= 0xe0 ? 3 : 2;
  const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  uint32_t value = code & (0x7fu >> length);
  const bool begins = code >= 0xc2 && code <= 0xf4;
  code = UINT32_MAX;
  for (std::size_t i = 1; begins && i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 1;
    value = value << 6 | (byte(i) & 0x3f);
  }
  if (!begins || value < least[length]) return 1;
  code = value;
  return length;
}

// Replaces the bytes of unprintable characters in a UTF-8 text that ends with NUL.
inline void make_printable(char* text) noexcept {
  while (*text) {
    uint32_t code = 0;
    const std::size_t length = decode_utf8(text, code);
    if (is_unprintable(code)) std::fill(text, text + length, '?');
    text += length;
  }
}

}  // namespace sgmf
