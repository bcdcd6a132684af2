#include "libsgmf/status.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <system_error>

#include "package/engines/engine_error.h"
#include "package/package_error.h"
#include "package/printable.h"
#include "pipeline/error.h"
#include "system/backend_missing.h"

namespace sgmf::embedding {
namespace {

sgmf_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::argument: return SGMF_INVALID_ARGUMENT;
    case ErrorCode::input: return SGMF_INPUT_REFUSED;
    case ErrorCode::geometry: return SGMF_INPUT_REFUSED;
    case ErrorCode::budget: return SGMF_BUDGET_TOO_SMALL;
    case ErrorCode::backend: return SGMF_BACKEND_FAILED;
    case ErrorCode::cancelled: return SGMF_CANCELLED;
  }
  return SGMF_DEFECT;
}

}  // namespace

void copy_text(const char* text, char* target, std::size_t size) noexcept {
  std::size_t length = std::min(std::strlen(text), size - 1);
  const auto continues = [&] { return (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80; };
  while (length > 0 && continues()) --length;
  std::memcpy(target, text, length);
  target[length] = '\0';
  make_printable(target);
}

sgmf_status current_status(Message& message) noexcept {
  try {
    throw;
  } catch (const StatusError& error) {
    message.set(error.what());
    return error.status;
  } catch (const Error& error) {
    message.set(error.what());
    return status_of(error.code());
  } catch (const PackageNotFound& error) {
    message.set(error.what());
    return SGMF_NOT_FOUND;
  } catch (const PackageError& error) {
    message.set(error.what());
    return SGMF_PACKAGE_REFUSED;
  } catch (const BackendMissing& error) {
    message.set(error.what());
    return SGMF_BACKEND_MISSING;
  } catch (const EngineError& error) {
    message.set(error.what());
    return SGMF_BACKEND_FAILED;
  } catch (const std::bad_alloc&) {
    message.set(
        "the system gave no more memory; free some, or open the package with a smaller "
        "memory_budget_mib");
    return SGMF_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    message.set("more memory is needed than a process can address; use a smaller volume");
    return SGMF_OUT_OF_MEMORY;
  } catch (const std::system_error& error) {
    message.set((std::string("the system gave no thread: ") + error.what()).c_str());
    return SGMF_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    message.set(error.what());
    return SGMF_DEFECT;
  } catch (...) {
    message.set("an exception that is none of this library's");
    return SGMF_DEFECT;
  }
}

}  // namespace sgmf::embedding
