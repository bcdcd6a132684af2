#include "package/signature/check_signature.h"

#include <cstdlib>
#include <ctime>
#include <map>
#include <vector>

#include "package/package_error.h"
#include "package/printable.h"
#include "package/signature/ed25519.h"
#include "package/signature/hex.h"
#include "package/signature/trusted_keys.h"
#include "package/typed_json.h"

namespace sgmf {
namespace {

constexpr const char* purpose = "segmaformer package 1\n";

bool is_required(const Trust& trust) {
  const char* value = std::getenv("SGMF_REQUIRE_SIGNATURE");
  const std::string named = value ? value : "";
  return trust.required || !(named.empty() || named == "0");
}

// Signatures by the ids of their keys.
std::map<std::string, Signature> parse_list(const std::string& content) {
  if (static_cast<int64_t>(content.size()) > most_signature_bytes) {
    throw PackageError("manifest.sig is larger than 64 KiB, no list of signatures is");
  }
  const Json document = load_json(content, signature_file);
  const Field list(document, signature_file, /*ignore_unknown=*/false);
  std::map<std::string, Signature> signatures;
  for (const Field& entry : list.list()) {
    entry.expect_fields({"key", "signature"});
    const std::string id = entry.at("key").text();
    const auto signature = from_hex<64>(entry.at("signature").text());
    if (!from_hex<32>(id) || !signature) {
      throw PackageError(
          "manifest.sig has an entry of another form; expected a key of 64 and a signature of 128 "
          "hexadecimal digits");
    }
    if (!signatures.emplace(id, *signature).second) {
      throw PackageError("manifest.sig has two signatures of the key " + id);
    }
  }
  return signatures;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts;
  ::gmtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

// Why a trusted key's signature does not count; empty if it does.
std::string complaint(const TrustedKey& key, const Signature& signature,
                      const std::string& message) {
  if (key.revoked) return "the key " + key.name + " is revoked";
  if (!key.not_after.empty() && key.not_after < today()) {
    return "the key " + key.name + " ended after " + key.not_after;
  }
  if (has_signed(key.key, message.data(), message.size(), signature)) return "";
  return "the signature of the key " + key.name + " is not of this manifest.json";
}

// Refuses an older release than the key allows; the manifest is what the key signed.
void check_release(const TrustedKey& key, const std::string& manifest) {
  if (key.least_releases.empty()) return;
  const Json document = load_json_object(manifest, "manifest.json");
  const Field field(document, "manifest", /*ignore_unknown=*/true);
  field.expect_fields({"name"}, {"release"});
  const std::string name = field.at("name").text();
  const auto least = key.least_releases.find(name);
  if (least == key.least_releases.end()) return;
  const bool numbered = field.is_set("release");
  if (numbered && field.at("release").integer() >= least->second) return;
  throw PackageError(
      "the package is " +
      (numbered ? "release " + std::to_string(field.at("release").integer()) : "no release") +
      " of " + printable(name, 80) + "; the key " + key.name + " allows none before release " +
      std::to_string(least->second) + ": get a newer package");
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

}  // namespace

std::optional<Signer> check_signature(const std::string& manifest,
                                      const std::optional<std::string>& list, const Trust& trust) {
  const TrustedKeys keys = read_trusted_keys(trust.keys);
  if (keys.empty()) {
    if (!is_required(trust)) return std::nullopt;
    throw PackageError(
        "a signature is required, but you trust no key; run: sgmf trust add NAME.pub");
  }
  if (!list) {
    throw PackageError(
        "the package has no manifest.sig; expected a signature of a key that you trust: get a "
        "signed package from its maker");
  }
  const std::string message = purpose + manifest;
  std::optional<Signer> signer;
  std::vector<std::string> complaints;
  for (const auto& [id, signature] : parse_list(*list)) {
    const auto key = keys.find(id);
    if (key == keys.end()) continue;
    const std::string found = complaint(key->second, signature, message);
    if (found.empty()) {
      check_release(key->second, manifest);
      if (!signer) signer = Signer{id, key->second.name};
    } else {
      complaints.push_back(found);
    }
  }
  if (signer) return signer;
  throw PackageError("the package has no signature that you can trust: " +
                     (complaints.empty() ? "none is of a key that you trust; `sgmf trust list` "
                                           "shows those"
                                         : joined(complaints)));
}

}  // namespace sgmf
