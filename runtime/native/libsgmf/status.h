// Conversion of exceptions to statuses and messages.
#pragma once

#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>

#include "sgmf.h"

namespace sgmf::embedding {

// An error that already knows its status.
struct StatusError : std::runtime_error {
  StatusError(sgmf_status code, const std::string& text) : std::runtime_error(text), status(code) {}
  sgmf_status status;
};

// Copies as much of a UTF-8 text as fits, whole characters and a NUL; characters that could control
// a terminal become question marks. `size` is 1 or more.
void copy_text(const char* text, char* target, std::size_t size) noexcept;

// Message for the caller, in memory that is always there.
class Message {
 public:
  const char* text() const { return text_; }
  void clear() { text_[0] = '\0'; }
  void set(const char* text) noexcept { copy_text(text, text_, sizeof text_); }

 private:
  char text_[2048] = "";
};

// The status of the exception that is being handled; its text goes to `message`.
sgmf_status current_status(Message& message) noexcept;

// Runs `body`; its exceptions become a status and a message.
template <typename F>
sgmf_status attempt(Message& message, F&& body) noexcept {
  message.clear();
  try {
    body();
    return SGMF_OK;
  } catch (...) {
    return current_status(message);
  }
}

}  // namespace sgmf::embedding
