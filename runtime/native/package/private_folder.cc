#include "package/private_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace sgmf {
namespace {

constexpr int no_surprises = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
constexpr std::size_t piece_bytes = 1 << 20;

std::string system_text(int error) { return std::generic_category().message(error); }

// Permissions as "ls -l" writes them, such as -rw-r-----.
std::string shown_mode(mode_t mode) {
  std::string text = S_ISDIR(mode) ? "d" : S_ISREG(mode) ? "-" : "?";
  const char* letters = "rwxrwxrwx";
  for (int bit = 8; bit >= 0; --bit) text += mode >> bit & 1 ? letters[8 - bit] : '-';
  if (mode & S_ISVTX) text.back() = mode & S_IXOTH ? 't' : 'T';
  return text;
}

// Refuses what belongs to others, or what others can write. Where the sticky bit suffices, others
// may create but neither rename nor remove.
void check_owner(const std::string& path, const struct stat& info, FolderUse use,
                 bool sticky_suffices = false) {
  const uid_t user = ::geteuid();
  if (info.st_uid != 0 && info.st_uid != user) {
    use.refuse(path + " belongs to user " + std::to_string(info.st_uid) + "; expected user " +
               std::to_string(user) + " or root. Set " + use.variable + " to a folder of your own");
  }
  const bool others_write = info.st_mode & (S_IWGRP | S_IWOTH);
  if (others_write && !(sticky_suffices && info.st_mode & S_ISVTX)) {
    use.refuse(path + " can be written by others (" + shown_mode(info.st_mode) +
               "); expected the user alone. Make sure that it holds only what is yours, "
               "then run: chmod go-w '" +
               path + "'");
  }
}

void check_file(const std::string& path, const struct stat& info, FolderUse use, bool secret) {
  if (!S_ISREG(info.st_mode)) use.refuse(path + " is not a regular file; remove it");
  check_owner(path, info, use);
  if (secret && info.st_mode & (S_IRWXG | S_IRWXO)) {
    use.refuse(path + " can be read by others (" + shown_mode(info.st_mode) +
               "), so it keeps no secret. Remove it and what lies beside it, and build "
               "again");
  }
}

[[noreturn]] void refuse_folder(const std::string& path, FolderUse use, int error) {
  use.refuse(path + " cannot be opened as a folder: " + system_text(error) + "; set " +
             use.variable + " to a folder of your own");
  throw std::logic_error("a refusal throws");
}

// A path without the slashes at its end, which would let a link be followed.
std::string trimmed(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

void check_above(const std::string& path, FolderUse use) {
  for (std::size_t slash = 0; slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string above = slash == 0 ? "/" : path.substr(0, slash);
    struct stat info;
    if (::lstat(above.c_str(), &info) != 0) refuse_folder(above, use, errno);
    check_owner(above, info, use, /*sticky_suffices=*/true);
  }
}

struct stat info_of(int descriptor, const std::string& path, FolderUse use) {
  struct stat info;
  if (::fstat(descriptor, &info) != 0) refuse_folder(path, use, errno);
  return info;
}

// A descriptor that is closed at the end of its scope.
struct Descriptor {
  explicit Descriptor(int given) : value(given) {}
  ~Descriptor() { ::close(value); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value;
};

std::string read_whole(int file, const std::string& place, FolderUse use, int64_t limit) {
  std::string content;
  auto wanted = static_cast<uint64_t>(std::max<int64_t>(limit, 0)) + 1;
  while (wanted > 0) {
    const std::size_t before = content.size();
    content.resize(before + static_cast<std::size_t>(std::min<uint64_t>(wanted, piece_bytes)));
    ssize_t count = 0;
    do {
      count = ::read(file, content.data() + before, content.size() - before);
    } while (count < 0 && errno == EINTR);
    if (count < 0) use.refuse(place + " cannot be read: " + system_text(errno));
    content.resize(before + static_cast<std::size_t>(count));
    if (count == 0) break;
    wanted -= static_cast<uint64_t>(count);
  }
  return content;
}

}  // namespace

std::optional<PrivateFolder> PrivateFolder::open(const std::string& path, FolderUse use) {
  const std::string named = trimmed(path);
  struct stat info;
  if (::lstat(named.c_str(), &info) != 0) {
    if (errno == ENOENT) return std::nullopt;
    refuse_folder(named, use, errno);
  }
  if (S_ISLNK(info.st_mode)) {
    use.refuse(named + " is a link; name the folder that it leads to");
  }
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(named.c_str(), nullptr),
                                                         &std::free);
  if (!real) refuse_folder(named, use, errno);
  const std::string resolved = real.get();
  check_above(resolved, use);
  const int descriptor = ::open(resolved.c_str(), no_surprises | O_DIRECTORY);
  if (descriptor < 0) refuse_folder(resolved, use, errno);
  PrivateFolder folder(resolved, use, descriptor);
  check_owner(resolved, info_of(descriptor, resolved, use), use);
  return folder;
}

PrivateFolder::PrivateFolder(std::string path, FolderUse use, int descriptor)
    : path_(std::move(path)),
      use_(use),
      descriptor_(descriptor) {}

PrivateFolder::PrivateFolder(PrivateFolder&& other) noexcept
    : path_(std::move(other.path_)),
      use_(other.use_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

PrivateFolder::~PrivateFolder() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::optional<std::string> PrivateFolder::read(const std::string& name, int64_t limit,
                                               bool secret) const {
  const std::string place = path_ + "/" + name;
  const int opened = ::openat(descriptor_, name.c_str(), no_surprises);
  if (opened < 0) {
    if (errno == ENOENT) return std::nullopt;
    use_.refuse(place + " cannot be read: it is a link, or " + system_text(errno) + "; remove it");
  }
  const Descriptor file(opened);
  check_file(place, info_of(file.value, place, use_), use_, secret);
  return read_whole(file.value, place, use_, limit);
}

std::vector<std::string> PrivateFolder::names(const std::string& suffix) const {
  const int copy = ::openat(descriptor_, ".", no_surprises | O_DIRECTORY);
  if (copy < 0) refuse_folder(path_, use_, errno);
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::fdopendir(copy), &::closedir);
  if (!listing) {
    ::close(copy);
    refuse_folder(path_, use_, errno);
  }
  std::vector<std::string> found;
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string name = entry->d_name;
    const bool ends = name.size() >= suffix.size() &&
                      name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
    if (ends) found.push_back(name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace sgmf
