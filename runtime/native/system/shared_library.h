// Libraries that are found and loaded at run time: nothing is linked to them.
#pragma once

#include <string>
#include <vector>

namespace sgmf {

// Places of a library, and its name in messages.
struct LibrarySearch {
  std::string what;   // such as ONNX Runtime
  std::string given;  // path that the caller names; may be empty
  const char* variable =
      nullptr;  // of the environment, that names a path where the caller does not
  std::vector<std::string> usual;  // where neither names one
  const char* entry = nullptr;     // a function by which the right library is known
  std::string remedy;
};

// Stays loaded to the end of the process, since its threads and statics may outlive any unloading.
class SharedLibrary {
 public:
  // The first that loads and has the entry. Throws BackendMissing, with all that was tried.
  explicit SharedLibrary(const LibrarySearch& search);

  // A function by its name; NULL where there is none.
  template <typename F>
  F function(const char* name) const {
    return reinterpret_cast<F>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  void* handle_;
};

// The folder from which the library that holds this code was loaded, without links; wherever the
// process went since. Empty where a program holds it.
const std::string& own_folder();

// Files by a pattern below site-packages: of the Python environment in which this code is
// installed, then of the one in VIRTUAL_ENV.
std::vector<std::string> in_python_environments(const std::string& pattern);

// Keeps the library that holds this code to the end of the process, because something else does.
void stay_loaded();

}  // namespace sgmf
