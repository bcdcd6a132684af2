#include "cuda/driver/driver.h"

#include <fstream>

#include "system/backend_missing.h"

namespace sgmf::cuda {
namespace {

LibrarySearch search(const std::string& library) {
  LibrarySearch search;
  search.what = "NVIDIA driver";
  search.given = library;
  search.usual = {"libcuda.so.1"};
  search.entry = "cuInit";
  search.remedy = "Install NVIDIA's driver, or choose the backend onnxruntime";
  return search;
}

// As Python reads the same line: bytes beyond ASCII stand for something unknown.
std::string cleaned(const std::string& line) {
  const char* blanks = " \t\r\v\f";
  const std::size_t begin = line.find_first_not_of(blanks);
  if (begin == std::string::npos) return "";
  std::string text;
  for (const char c : line.substr(begin, line.find_last_not_of(blanks) - begin + 1)) {
    text += static_cast<unsigned char>(c) < 0x80 ? std::string(1, c) : "\xef\xbf\xbd";
  }
  return text;
}

}  // namespace

Driver::Driver(const std::string& library) : library_(search(library)) {
  const auto find_all = [this](auto&... functions) { (find(functions), ...); };
  find_all(init, get_version, get_error_name, get_error_text);
  find_all(device_get, device_get_count, device_get_name, device_get_attribute,
           device_total_memory);
  find_all(context_retain, context_release, context_push, context_pop);
  find_all(memory_info, memory_allocate, memory_free, pinned_allocate, pinned_free);
  find_all(copy_in, copy_out, stream_create, stream_destroy, stream_synchronize, stream_wait_event);
  find_all(event_create, event_destroy, event_record);
  try {
    call(init, 0u);
  } catch (const CudaError& error) {
    throw BackendMissing(std::string(error.what()) +
                         ". The driver is installed and finds no GPU that it can use: check "
                         "CUDA_VISIBLE_DEVICES, the permissions of /dev/nvidia*, and that the "
                         "kernel's module is of the same release");
  }
}

template <typename... Arguments>
void Driver::find(Function<Arguments...>& function) const {
  function.call = library_.function<Result (*)(Arguments...)>(function.name);
  if (function.call) return;
  throw BackendMissing("the NVIDIA driver has no " + std::string(function.name) +
                       "; install a newer one");
}

std::string Driver::version() const {
  int number = 0;
  call(get_version, &number);
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

std::string Driver::words(Result code) const {
  std::string words;
  for (const auto& function : {get_error_name, get_error_text}) {
    const char* text = nullptr;
    function.call(code, &text);
    words += (words.empty() ? "" : ": ") + std::string(text ? text : "unknown");
  }
  return words;
}

std::optional<std::string> driver_release(std::initializer_list<const char*> files) {
  for (const char* path : files) {
    std::ifstream file(path);
    std::string line;
    if (std::getline(file, line)) return cleaned(line);
  }
  return std::nullopt;
}

}  // namespace sgmf::cuda
