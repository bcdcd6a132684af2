// A network in ONNX Runtime's CPU provider, with this project's own ops.
#pragma once

#include <memory>
#include <string>

#include "onnxruntime/ops/op_domain.h"
#include "onnxruntime/session/library.h"
#include "pipeline/tiles/network.h"
#include "python/interface.h"

namespace sgmf::onnxruntime {

class Session : public Network {
 public:
  // `model` is a serialised ONNX model. Throws Error(backend): ONNX Runtime refuses it, or its
  // inputs and outputs differ from `interface`.
  Session(const Library& library, const std::string& model, const Interface& interface,
          int threads);

  // One tile at a time. Throws Error(backend): the run failed.
  void run(const float* tiles, int64_t count, float* logits) override;
  // Coarser than the tile if the network ends with an upsampling, which is left to the pipeline.
  Triple logits_shape(const Triple& tile) const override;

 private:
  struct Release {
    ort::Api api;
    template <typename T>
    void operator()(T* object) const {
      api.release(object);
    }
  };
  template <typename T>
  using Held = std::unique_ptr<T, Release>;

  template <typename T, typename Create>
  Held<T> hold(Create&& create) const;
  Held<ort::Session> open(const std::string& model, int threads) const;
  std::string check_interface(const char* what, bool input, int64_t channels) const;
  std::string name(bool input) const;
  Held<ort::Value> tensor(float* data, int64_t channels, const Triple& grid) const;

  ort::Api api_;
  Interface interface_;
  Triple scales_{1, 1, 1};  // from the logits' grid to the tile's
  OpDomain ops_;
  Held<ort::Env> environment_;
  Held<ort::Session> session_;
  Held<ort::MemoryInfo> memory_;
  std::string input_;
  std::string output_;
};

}  // namespace sgmf::onnxruntime
