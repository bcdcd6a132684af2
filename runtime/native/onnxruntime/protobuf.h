// The part of protobuf's wire format that is needed to read messages and to leave out fields.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace sgmf::protobuf {

struct Malformed : std::runtime_error {
  Malformed() : std::runtime_error("a message is malformed") {}
};

enum class Wire : uint8_t { varint = 0, eight_bytes = 1, length_delimited = 2, four_bytes = 5 };

// A field of a message, in its place there.
struct Field {
  uint64_t number;
  Wire wire;
  uint64_t value;            // of a varint; else 0
  std::string_view whole;    // with its tag
  std::string_view content;  // of a text or message, or of four or eight bytes; else empty
};

// The fields of a message, one after the other.
class Reader {
 public:
  explicit Reader(std::string_view message) : rest_(message) {}

  // Whether there was another field. Throws Malformed.
  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::string_view from = rest_;
    const uint64_t tag = varint();
    // Larger tags are cut to 32 bits by some readers, to another field's.
    if (tag > UINT32_MAX || tag >> 3 == 0) throw Malformed();
    field.number = tag >> 3;
    field.wire = static_cast<Wire>(tag & 7);
    field.value = 0;
    field.content = {};
    switch (field.wire) {
      case Wire::varint: field.value = varint(); break;
      case Wire::eight_bytes: field.content = take(8); break;
      case Wire::length_delimited: field.content = take(varint()); break;
      case Wire::four_bytes: field.content = take(4); break;
      default: throw Malformed();
    }
    field.whole = from.substr(0, from.size() - rest_.size());
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    throw Malformed();
  }

  std::string_view take(uint64_t size) {
    if (size > rest_.size()) throw Malformed();
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
};

}  // namespace sgmf::protobuf
