// Any bytes as the list of a package's signatures, as a trusted key, and as a signature.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "package/package_error.h"
#include "package/signature/check_signature.h"
#include "package/signature/ed25519.h"
#include "package/signature/trusted_keys.h"

namespace {

template <typename F>
void refuse_or_take(F&& body) {
  try {
    body();
  } catch (const sgmf::PackageError&) {}
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  char folder[] = "/dev/shm/sgmf-fuzz-XXXXXX";
  if (!::mkdtemp(folder)) std::abort();
  const std::string key = std::string(folder) + "/maker.pub";
  std::ofstream(key) << R"({"name": "maker", "least_releases": {"sample": 2}, "public_key":
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"})";
  ::setenv("XDG_CONFIG_HOME", folder, 1);
  ::setenv("SGMF_TRUST", key.c_str(), 1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string content(reinterpret_cast<const char*>(data), size);
  refuse_or_take([&] { sgmf::check_signature("manifest", content, {}); });
  refuse_or_take([&] { sgmf::parse_trusted_key(content, "key"); });
  sgmf::Bytes32 key{};
  sgmf::Signature signature{};
  if (size < key.size() + signature.size()) return 0;
  std::copy_n(data, key.size(), key.begin());
  std::copy_n(data + key.size(), signature.size(), signature.begin());
  // Chance finds no signature of a key that its maker does not know.
  if (sgmf::has_signed(key, "manifest", 8, signature)) std::abort();
  return 0;
}
