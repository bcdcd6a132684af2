#include "package/signature/trusted_keys.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "package/package_error.h"
#include "package/private_folder.h"
#include "package/sha256.h"
#include "package/signature/ed25519.h"
#include "package/signature/hex.h"
#include "package/typed_json.h"
#include "system/home_folder.h"

#ifndef SGMF_SYSTEM_KEY_RING
#define SGMF_SYSTEM_KEY_RING "/etc/segmaformer/trust.d"
#endif

namespace sgmf {
namespace {

constexpr int64_t most_bytes = 64 * 1024;
constexpr std::size_t longest_name = 64;

[[noreturn]] void refuse(const std::string& message) { throw PackageError(message); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// The user's key ring; empty where there is no home folder.
std::string own_key_ring() {
  const std::string configured = environment("XDG_CONFIG_HOME");
  if (!configured.empty() && configured[0] == '/') return configured + "/segmaformer/trust.d";
  const std::string home = home_folder();
  return home.empty() ? "" : home + "/.config/segmaformer/trust.d";
}

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= longest_name && is_letter_or_digit(text[0]) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_letter_or_digit(c) || c == '.' || c == '-'; });
}

bool is_day(const std::string& text) {
  const std::string form = "dddd-dd-dd";
  return text.size() == form.size() &&
         std::equal(text.begin(), text.end(), form.begin(), [](char c, char expected) {
           return expected == 'd' ? c >= '0' && c <= '9' : c == expected;
         });
}

void add(TrustedKeys& keys, TrustedKey key) {
  const auto [place, is_new] = keys.emplace(key_id(key.key), key);
  if (is_new) return;
  TrustedKey& known = place->second;
  known.revoked = known.revoked || key.revoked;
  if (known.not_after.empty() || (!key.not_after.empty() && key.not_after < known.not_after)) {
    known.not_after = key.not_after;
  }
  for (const auto& [package, release] : key.least_releases) {
    const auto [found, added] = known.least_releases.emplace(package, release);
    if (!added) found->second = std::max(found->second, release);
  }
}

void add_folder(TrustedKeys& keys, const std::string& path) {
  const auto folder = PrivateFolder::open(path, {"XDG_CONFIG_HOME", refuse});
  if (!folder) return;
  for (const std::string& name : folder->names(".pub")) {
    const auto content = folder->read(name, most_bytes);
    if (content) add(keys, parse_trusted_key(*content, folder->path() + "/" + name));
  }
}

void add_named(TrustedKeys& keys, const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    refuse("there is no key at " + path + "; expected a file or a folder of trusted keys");
  }
  if (S_ISDIR(info.st_mode)) return add_folder(keys, path);
  if (!S_ISREG(info.st_mode)) refuse(path + " is not a regular file; expected a trusted key");
  std::ifstream stream(path, std::ios::binary);
  std::string content(static_cast<std::size_t>(most_bytes) + 1, '\0');
  stream.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<std::size_t>(stream.gcount()));
  add(keys, parse_trusted_key(content, path));
}

}  // namespace

std::string key_id(const Bytes32& key) { return hex_sha256(std::string(key.begin(), key.end())); }

TrustedKey parse_trusted_key(const std::string& content, const std::string& place) {
  if (static_cast<int64_t>(content.size()) > most_bytes) {
    refuse(place + " is larger than 64 KiB, no key is");
  }
  const Json document = load_json_object(content, place);
  const Field field(document, place, /*ignore_unknown=*/false);
  field.expect_fields({"name", "public_key"}, {"not_after", "revoked", "least_releases"});
  TrustedKey key{field.at("name").text(), {}, "", false, {}};
  if (!is_name(key.name)) refuse(place + " names no key; expected up to 64 letters and digits");
  const auto bytes = from_hex<32>(field.at("public_key").text());
  if (!bytes || !is_public_key(*bytes)) {
    refuse(place + " holds no public key of Ed25519; expected its 64 hexadecimal digits");
  }
  key.key = *bytes;
  if (field.is_set("not_after")) key.not_after = field.at("not_after").text();
  if (!key.not_after.empty() && !is_day(key.not_after)) {
    refuse(place + " has no proper not_after; expected a day such as 2028-12-31");
  }
  if (field.has("revoked")) key.revoked = field.at("revoked").boolean();
  if (field.has("least_releases")) {
    for (const auto& [package, release] : field.at("least_releases").mapping()) {
      key.least_releases[package] = release.integer();
    }
  }
  return key;
}

TrustedKeys read_trusted_keys(const std::string& named) {
  TrustedKeys keys;
  for (const std::string& ring : {std::string(SGMF_SYSTEM_KEY_RING), own_key_ring()}) {
    if (!ring.empty()) add_folder(keys, ring);
  }
  const std::string path = named.empty() ? environment("SGMF_TRUST") : named;
  if (!path.empty()) add_named(keys, path);
  return keys;
}

}  // namespace sgmf
