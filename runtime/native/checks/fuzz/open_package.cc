// Packages of any content: opening either succeeds or throws what it promises.
//
// The input is the text of a manifest, without its seal unless it begins with one; the folder holds
// the file that the corpus's manifests list.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "package/package.h"
#include "package/package_error.h"
#include "package/sha256.h"

namespace {

// A folder of this process, in memory where the system has such a place.
const std::string& folder() {
  static const std::string path = [] {
    char name[] = "/dev/shm/sgmf-fuzz-XXXXXX";
    if (!::mkdtemp(name)) std::abort();
    return std::string(name);
  }();
  return path;
}

void write(const std::string& name, const std::string& content) {
  std::ofstream(folder() + "/" + name, std::ios::binary) << content;
}

std::string sealed(const std::string& text) {
  if (text.find("manifest_sha256") != std::string::npos || text.compare(0, 2, "{\n") != 0) {
    return text;
  }
  sgmf::Sha256 digest;
  digest.update(text.data(), text.size());
  return "{\n  \"manifest_sha256\": \"" + digest.hex_digest() + "\",\n" + text.substr(2);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  write("fp32.onnx", "network");
  ::setenv("XDG_CONFIG_HOME", folder().c_str(), 1);  // no key is trusted
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  write("manifest.json", sealed(std::string(reinterpret_cast<const char*>(data), size)));
  try {
    const sgmf::Package package(folder(), sgmf::Trust{});
    for (const auto& [name, file] : package.manifest().variants) package.read(file);
    check(package.manifest().spec);
  } catch (const sgmf::PackageError&) {}
  return 0;
}
