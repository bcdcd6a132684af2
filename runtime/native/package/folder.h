// Files of a folder, read without following links.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace sgmf {

// An open folder; anything put at its path later is ignored.
class Folder {
 public:
  using Sink = std::function<void(const char* bytes, std::size_t size)>;

  // Throws PackageNotFound if there is nothing at `path`, PackageError if it is no folder.
  explicit Folder(std::string path);
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  bool has(const std::string& name) const;

  // Hands the content of a regular file to `sink`, piece by piece, up to `limit` bytes. `name` has
  // single slashes between its parts. Throws PackageError: a part is a link, the file is missing,
  // of another kind or cannot be read.
  void read(const std::string& name, int64_t limit, const Sink& sink) const;

 private:
  int open_file(const std::string& name) const;

  std::string path_;
  int descriptor_;
};

}  // namespace sgmf
