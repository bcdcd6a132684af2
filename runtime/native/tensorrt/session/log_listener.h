// TensorRT's messages. TensorRT keeps the first logger of a process for all its work, so there is
// one that lives forever; the listener of a thread receives that thread's messages.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

namespace sgmf::tensorrt {

// Prints nothing. Lives to the end of the process.
nvinfer1::ILogger& log();

// Hears the errors that are reported on this thread while it lives.
class LogListener {
 public:
  LogListener();
  ~LogListener();
  LogListener(const LogListener&) = delete;
  LogListener& operator=(const LogListener&) = delete;

  // The first errors so far, or a word that there were none.
  std::string errors() const;

  // Keeps an error, if there is memory for it.
  void hear(const char* text) noexcept;

 private:
  LogListener* outer_;
  std::vector<std::string> errors_;
};

}  // namespace sgmf::tensorrt
