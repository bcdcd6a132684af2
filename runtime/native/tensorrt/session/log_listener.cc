#include "tensorrt/session/log_listener.h"

#include <utility>

namespace sgmf::tensorrt {
namespace {

constexpr std::size_t most_errors = 3;

thread_local LogListener* current = nullptr;

class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    const bool serious = severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR;
    if (serious && current && text) current->hear(text);
  }
};

}  // namespace

nvinfer1::ILogger& log() {
  static Log* const only = new Log;  // never deleted: other statics may speak to it at the end
  return *only;
}

LogListener::LogListener() : outer_(std::exchange(current, this)) {}

LogListener::~LogListener() { current = outer_; }

std::string LogListener::errors() const {
  std::string text;
  for (const std::string& each : errors_) text += (text.empty() ? "" : "; ") + each;
  return text.empty() ? "it gave no reason" : text;
}

void LogListener::hear(const char* text) noexcept {
  if (errors_.size() >= most_errors) return;
  try {
    std::string said = text;
    said.resize(said.find_last_not_of(" \t\r\n") + 1);
    errors_.push_back(std::move(said));
  } catch (...) {}
}

}  // namespace sgmf::tensorrt
