#include "python/run_lengths.h"

#include <algorithm>
#include <cstring>

namespace {

constexpr int64_t header_bytes = 64;
constexpr int32_t most_planes = 15;

uint32_t little_endian(const uint8_t* data) {
  return data[0] | data[1] << 8 | data[2] << 16 | static_cast<uint32_t>(data[3]) << 24;
}

// Unpacks `count` bytes to every `step`-th of `out`; false if the packed ones end too early.
bool unpack(const uint8_t* at, const uint8_t* end, int64_t count, int32_t step, uint8_t* out) {
  int64_t done = 0;
  while (done < count && at < end) {
    const uint8_t code = *at++;
    if (code == 128) continue;  // no operation
    const bool is_run = code > 128;
    const int64_t length = is_run ? 257 - code : code + 1;
    if (end - at < (is_run ? 1 : length)) return false;
    const int64_t wanted = std::min(length, count - done);
    uint8_t* target = out + done * step;
    if (is_run) {
      for (int64_t i = 0; i < wanted; ++i) target[i * step] = *at;
    } else {
      for (int64_t i = 0; i < wanted; ++i) target[i * step] = at[i];
    }
    at += is_run ? 1 : length;
    done += wanted;
  }
  return done == count;
}

}  // namespace

const char* sgmf_decode_run_lengths(const void* data, int64_t size, int64_t count, int32_t width,
                                    uint8_t* out) {
  const uint8_t* const bytes = static_cast<const uint8_t*>(data);
  if (count < 1) return "it is said to hold no numbers";
  if (size < header_bytes) return "its RLE header is cut off";
  if (width < 1 || width > most_planes || little_endian(bytes) != static_cast<uint32_t>(width)) {
    return "it has another number of RLE segments than its numbers have bytes";
  }
  for (int32_t plane = 0; plane < width; ++plane) {
    const int64_t begin = little_endian(bytes + 4 * (plane + 1));
    const int64_t end = plane + 1 < width ? little_endian(bytes + 4 * (plane + 2)) : size;
    if (begin < header_bytes || end < begin || end > size) return "its RLE segments lie askew";
    if (!unpack(bytes + begin, bytes + end, count, width, out + width - 1 - plane)) {
      return "an RLE segment ends before its image does";
    }
  }
  return nullptr;
}
