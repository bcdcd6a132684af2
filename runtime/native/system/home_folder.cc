#include "system/home_folder.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace sgmf {

std::string home_folder() {
  if (const char* named = std::getenv("HOME"); named && *named) return named;
  std::array<char, 4096> memory;
  passwd entry;
  passwd* found = nullptr;
  ::getpwuid_r(::getuid(), &entry, memory.data(), memory.size(), &found);
  return found && found->pw_dir ? found->pw_dir : "";
}

}  // namespace sgmf
