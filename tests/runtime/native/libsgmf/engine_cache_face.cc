// The reading of built engines as a function that Python's tests can call.
#include <cstdio>
#include <cstring>
#include <string>

#include "cuda/driver/driver.h"
#include "package/engines/engine_cache.h"
#include "package/engines/engine_error.h"
#include "package/typed_json.h"
#include "system/backend_missing.h"

#define VISIBLE extern "C" __attribute__((visibility("default")))

namespace {

int say(const std::string& said, char* text, size_t size, int status) {
  std::snprintf(text, size, "%s", said.c_str());
  return status;
}

template <typename F>
int verdict(char* text, size_t size, F&& body) {
  try {
    return say(body(), text, size, 0);
  } catch (const sgmf::BackendMissing& error) {
    return say(error.what(), text, size, 1);
  } catch (const sgmf::EngineError& error) {
    return say(error.what(), text, size, 2);
  }
}

sgmf::EngineKey key_of(const char* document) {
  return sgmf::parse_engine_key(sgmf::load_json_object(document, "key"), "key");
}

}  // namespace

// 0 and the engine, 1 and why there is none, 2 and why it is not to be trusted.
VISIBLE int test_load(const char* folder, const char* wanted, char* text, size_t size) {
  return verdict(text, size, [&] {
    return sgmf::load_engine(folder, key_of(wanted), {"run: sgmf build", "Take the plugin along"});
  });
}

VISIBLE int test_digest(const char* key, char* text, size_t size) {
  return verdict(text, size, [&] { return key_of(key).digest(); });
}

// The driver's release as the key of an engine has it; "none" where no file says it.
VISIBLE int test_release(const char* first, const char* second, char* text, size_t size) {
  return verdict(text, size,
                 [&] { return sgmf::cuda::driver_release({first, second}).value_or("none"); });
}

VISIBLE int test_folder(char* text, size_t size) {
  return verdict(text, size, [] { return sgmf::engine_folder(); });
}
