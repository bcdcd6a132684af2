#include "python/signature.h"

#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <string>

#include "package/package_error.h"
#include "package/signature/check_signature.h"
#include "package/signature/ed25519.h"
#include "package/signature/trusted_keys.h"

namespace {

std::string bytes_of(const void* bytes, int64_t size) {
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(size)};
}

template <typename F>
int32_t say(char* said, int64_t room, F&& body) {
  const auto write = [&](const char* text) {
    std::snprintf(said, static_cast<std::size_t>(room), "%s", text);
  };
  try {
    write(body().c_str());
    return 0;
  } catch (const sgmf::PackageError& error) {
    write(error.what());
    return 1;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

}  // namespace

extern "C" int32_t sgmf_check_signature(const void* manifest, int64_t size, const void* list,
                                        int64_t list_size, const char* keys, int32_t required,
                                        char* said, int64_t room) {
  return say(said, room, [&]() -> std::string {
    std::optional<std::string> signatures;
    if (list) signatures = bytes_of(list, list_size);
    const auto signer = sgmf::check_signature(bytes_of(manifest, size), signatures,
                                              {keys ? keys : "", required != 0});
    return signer ? signer->key_id + " " + signer->name : "";
  });
}

extern "C" int32_t sgmf_check_trusted_key(const void* content, int64_t size, const char* place,
                                          char* said, int64_t room) {
  return say(said, room, [&] {
    return sgmf::key_id(sgmf::parse_trusted_key(bytes_of(content, size), place).key);
  });
}

extern "C" int32_t sgmf_has_signed(const void* key, const void* message, int64_t size,
                                   const void* signature) {
  sgmf::Bytes32 signer;
  sgmf::Signature signed_by;
  std::memcpy(signer.data(), key, signer.size());
  std::memcpy(signed_by.data(), signature, signed_by.size());
  return sgmf::has_signed(signer, message, static_cast<std::size_t>(size), signed_by);
}
