// An engine that was opened, and the context in which it runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cuda/driver/device.h"
#include "python/interface.h"
#include "tensorrt/session/library.h"

namespace sgmf::tensorrt {

class Engine {
 public:
  // `content` is a checked engine; the device is current. Throws Error(backend): it cannot be
  // opened, its inputs and outputs differ from `interface`, or the device has too little memory.
  Engine(const Library& library, std::shared_ptr<const cuda::Device> device,
         const std::string& content, const Interface& interface);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Most tiles at once.
  int64_t batch() const { return batch_; }

  // Lets `stream` compute logits of `count` tiles, both on the device. Computations share memory
  // of the engine: one has to be done before the next begins. Throws Error(backend).
  void compute(const cuda::Stream& stream, int64_t count, cuda::Address tiles,
               cuda::Address logits) const;

 private:
  std::string tensor(nvinfer1::TensorIOMode mode, const char* what, int64_t channels) const;
  int64_t most_tiles() const;

  std::shared_ptr<const cuda::Device> device_;
  Interface interface_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::string input_;
  std::string output_;
  int64_t batch_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace sgmf::tensorrt
