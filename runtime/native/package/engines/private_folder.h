// A folder that only its user can write, and files read from it without a gap for others. Mirrors
// the reading half of runtime/engines/private_folder.py, which says what is refused and why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sgmf {

class PrivateFolder {
 public:
  // The folder at `path`, or nothing where there is none. Throws EngineError: it or a folder above
  // it belongs to someone else or can be written by others, or it is a link or no folder.
  static std::optional<PrivateFolder> open(const std::string& path);

  PrivateFolder(PrivateFolder&& other) noexcept;
  PrivateFolder& operator=(PrivateFolder&&) = delete;
  ~PrivateFolder();

  // Absolute, with every link on the way resolved.
  const std::string& path() const { return path_; }

  // Content of a file, at most `limit` + 1 bytes of it, or nothing where there is none; nobody else
  // may read a secret. Throws EngineError: it is a link, no regular file, someone else's or open
  // to others.
  std::optional<std::string> read(const std::string& name, int64_t limit,
                                  bool secret = false) const;

  // Names of the files that end in `suffix`, sorted.
  std::vector<std::string> names(const std::string& suffix) const;

 private:
  PrivateFolder(std::string path, int descriptor);

  std::string path_;
  int descriptor_;  // of the folder that was checked, even if its name changes
};

}  // namespace sgmf
