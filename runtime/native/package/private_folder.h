// A folder that only its user can write, and files read from it without a gap for others. Mirrors
// the reading half of runtime/system/private_folder.py, which says what is refused and why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sgmf {

// What a folder is for: the variable that names another one, and the error of what cannot be
// trusted.
struct FolderUse {
  const char* variable;
  void (*refuse)(const std::string& message);  // throws
};

class PrivateFolder {
 public:
  // The folder at `path`, or nothing where there is none. Refuses it if it or a folder above it
  // belongs to someone else or can be written by others, or if it is a link or no folder.
  static std::optional<PrivateFolder> open(const std::string& path, FolderUse use);

  PrivateFolder(PrivateFolder&& other) noexcept;
  PrivateFolder& operator=(PrivateFolder&&) = delete;
  ~PrivateFolder();

  // Absolute, with every link on the way resolved.
  const std::string& path() const { return path_; }

  // Content of a file, at most `limit` + 1 bytes of it, or nothing where there is none; nobody else
  // may read a secret. Refuses a link, what is no regular file, someone else's or open to others.
  std::optional<std::string> read(const std::string& name, int64_t limit,
                                  bool secret = false) const;

  // Names of the files that end in `suffix`, sorted.
  std::vector<std::string> names(const std::string& suffix) const;

 private:
  PrivateFolder(std::string path, FolderUse use, int descriptor);

  std::string path_;
  FolderUse use_;
  int descriptor_;  // of the folder that was checked, even if its name changes
};

}  // namespace sgmf
