#include "system/shared_library.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <memory>

#include "system/backend_missing.h"

namespace sgmf {
namespace {

using Paths = std::vector<std::string>;

std::string environment(const char* name) {
  const char* value = name ? std::getenv(name) : nullptr;
  return value ? value : "";
}

void add_matches(const std::string& pattern, Paths& paths) {
  glob_t found{};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
}

void* load(const std::string& path, const LibrarySearch& search, std::string& tried) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  const char* why = library ? nullptr : ::dlerror();
  if (library && ::dlsym(library, search.entry)) return library;
  tried += (tried.empty() ? "" : "; ") +
           (library ? path + " is not " + search.what : std::string(why ? why : path));
  return nullptr;
}

void* find(const LibrarySearch& search) {
  const std::string given = search.given.empty() ? environment(search.variable) : search.given;
  std::string tried;
  for (const std::string& place : given.empty() ? search.usual : Paths{given}) {
    if (void* library = load(place, search, tried)) return library;
  }
  const std::string from = given.empty()          ? ""
                           : search.given.empty() ? " of " + std::string(search.variable)
                                                  : " given";
  throw BackendMissing("the " + search.what + from + " cannot be loaded: " + tried + ". " +
                       search.remedy);
}

// The file that holds this code, as the loader was told to find it.
std::string own_file() {
  Dl_info self{};
  const auto* here = reinterpret_cast<const void*>(&own_file);
  return ::dladdr(here, &self) && self.dli_fname ? self.dli_fname : "";
}

std::string find_own_folder() {
  const std::string file = own_file();
  const std::size_t slash = file.rfind('/');
  if (slash == std::string::npos) return "";  // that of a program, which was looked for in PATH
  const std::unique_ptr<char, decltype(&std::free)> real(
      ::realpath(file.substr(0, slash + 1).c_str(), nullptr), &std::free);
  return real ? real.get() : "";
}

// Found while the library is loaded: its name may be relative to where the process is then.
const std::string folder_at_loading = find_own_folder();

}  // namespace

SharedLibrary::SharedLibrary(const LibrarySearch& search) : handle_(find(search)) {}

void* SharedLibrary::symbol(const char* name) const { return ::dlsym(handle_, name); }

const std::string& own_folder() { return folder_at_loading; }

Paths in_python_environments(const std::string& pattern) {
  Paths paths;
  // site-packages/segmaformer/runtime/lib holds this code where Python installed it.
  const std::string folder = own_folder(), inside = "/segmaformer/runtime/lib";
  const bool installed = folder.size() > inside.size() &&
                         folder.compare(folder.size() - inside.size(), inside.size(), inside) == 0;
  if (installed) add_matches(folder.substr(0, folder.size() - inside.size()) + pattern, paths);
  const std::string root = environment("VIRTUAL_ENV");
  if (!root.empty()) add_matches(root + "/lib/python3*/site-packages" + pattern, paths);
  return paths;
}

void stay_loaded() { ::dlopen(own_file().c_str(), RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE); }

}  // namespace sgmf
