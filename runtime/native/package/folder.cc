#include "package/folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "package/package_error.h"

namespace sgmf {
namespace {

constexpr std::size_t piece_bytes = 1 << 18;

std::string system_text(int error) { return std::generic_category().message(error); }

// A descriptor that is closed at the end of its scope.
struct Descriptor {
  explicit Descriptor(int given) : value(given) {}
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value;
};

[[noreturn]] void refuse(const std::string& file, int error) {
  if (error == ELOOP || error == ENOTDIR) {
    throw PackageError(file + " leads to another place; packages hold no links");
  }
  throw PackageError(file + " belongs to the package but cannot be read: " + system_text(error));
}

}  // namespace

Folder::Folder(std::string path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ >= 0) return;
  const int error = errno;
  if (error == ENOENT) throw PackageNotFound("there is no package at " + path_);
  if (error == ENOTDIR) throw PackageError(path_ + " is no package: it is not a folder");
  throw PackageError(path_ + " cannot be opened: " + system_text(error));
}

Folder::~Folder() { ::close(descriptor_); }

bool Folder::has(const std::string& name) const {
  struct stat info;
  return ::fstatat(descriptor_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

int Folder::open_file(const std::string& name) const {
  Descriptor folder(::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0));
  if (folder.value < 0) refuse(path_ + "/" + name, errno);
  std::size_t start = 0;
  for (std::size_t slash; (slash = name.find('/', start)) != std::string::npos; start = slash + 1) {
    const std::string part = name.substr(start, slash - start);
    const int next =
        ::openat(folder.value, part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) refuse(path_ + "/" + name, errno);
    ::close(std::exchange(folder.value, next));
  }
  // Without O_NONBLOCK a pipe in the place of a file would wait for its writer.
  const int file = ::openat(folder.value, name.substr(start).c_str(),
                            O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) refuse(path_ + "/" + name, errno);
  return file;
}

void Folder::read(const std::string& name, int64_t limit, const Sink& sink) const {
  const Descriptor file(open_file(name));
  struct stat info;
  if (::fstat(file.value, &info) != 0) refuse(path_ + "/" + name, errno);
  if (!S_ISREG(info.st_mode)) throw PackageError(path_ + "/" + name + " is not a regular file");
  // No larger than the file: a package may list very many small ones.
  std::vector<char> piece(static_cast<std::size_t>(std::min<int64_t>(limit, piece_bytes)));
  while (limit > 0) {
    const auto wanted = static_cast<std::size_t>(std::min<int64_t>(limit, piece.size()));
    const ssize_t count = ::read(file.value, piece.data(), wanted);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse(path_ + "/" + name, errno);
    if (count == 0) return;
    sink(piece.data(), static_cast<std::size_t>(count));
    limit -= count;
  }
}

}  // namespace sgmf
