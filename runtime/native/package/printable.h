// Texts from a file that is not to be trusted, for messages.
#pragma once

#include <algorithm>
#include <cstddef>
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

}  // namespace sgmf
