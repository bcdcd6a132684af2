// Any text as the record of a built engine, in a folder whose key its writer knows.
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "package/engines/engine_cache.h"
#include "package/engines/engine_error.h"
#include "package/engines/hmac.h"
#include "package/package_error.h"
#include "package/typed_json.h"
#include "system/backend_missing.h"

namespace {

const std::string key(32, 'k');
// That of the record in the corpus.
constexpr const char* name =
    "d0e89497bf4e146fc759fbdee04fa7d72d42e79c7b2b783300c3dd850dca48cb.engine";

const std::string& folder() {
  static const std::string path = [] {
    char made[] = "/dev/shm/sgmf-fuzz-XXXXXX";
    if (!::mkdtemp(made)) std::abort();
    return std::string(made);
  }();
  return path;
}

void write(const std::string& file, const std::string& content) {
  const std::string path = folder() + "/" + file;
  std::ofstream(path, std::ios::binary) << content;
  ::chmod(path.c_str(), 0600);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  write("key", key);
  write(name, "native code");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (text.compare(0, 2, "{\n") != 0) return 0;
  const std::string mac = sgmf::hmac_sha256(key, "segmaformer sealed file 1\n" + text);
  write(std::string(name) + ".json", "{\n  \"hmac_sha256\": \"" + mac + "\",\n" + text.substr(2));
  try {
    sgmf::EngineKey wanted;
    try {
      const sgmf::Json document = sgmf::load_json_object(text, "record");
      wanted = sgmf::parse_engine_key(
          document.value("facts", sgmf::Json::object()).value("key", sgmf::Json::object()),
          "record");
    } catch (const std::exception&) {}
    sgmf::load_engine(folder(), wanted, {"build", "take the plugin"});
  } catch (const sgmf::EngineError&) {
  } catch (const sgmf::BackendMissing&) {}
  return 0;
}
