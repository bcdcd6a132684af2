// A network in an engine of TensorRT.
//
// Two slots of pinned and device memory, each with its own stream, take turns: while one computes,
// the tiles of the other are copied in and its logits out. The engine's scratch memory exists once,
// so computations follow each other by an event.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "pipeline/tiles/network.h"
#include "tensorrt/session/engine.h"

namespace sgmf::tensorrt {

class Session : public Network {
 public:
  // As Engine; the device has to be current here alone.
  Session(const Library& library, std::shared_ptr<const cuda::Device> device,
          const std::string& engine, const Interface& interface);

  int64_t batch() const { return engine_.batch(); }

  int64_t tiles_at_once() const override { return slots * engine_.batch(); }
  bool overlap() const override { return true; }
  bool lends() const override { return true; }

  // Throw Error(backend): the device failed.
  void run(const float* tiles, int64_t count, float* logits) override;
  const float* lend(const float* tiles, int64_t count) override;

 private:
  static constexpr int64_t slots = 2;

  struct Slot {
    Slot(const std::shared_ptr<const cuda::Device>& device, int64_t tile_floats,
         int64_t logit_floats);

    cuda::PinnedMemory tiles;
    cuda::DeviceMemory tiles_on_device;
    cuda::DeviceMemory logits_on_device;
    cuda::Stream stream;
    cuda::Event computed;
  };

  void start(const float* tiles, int64_t count, float* logits);
  void wait() const;

  std::shared_ptr<const cuda::Device> device_;
  int64_t tile_floats_;   // of one tile, all channels
  int64_t logit_floats_;  // of one tile, all classes
  Engine engine_;
  std::array<std::unique_ptr<Slot>, slots> slots_;
  // Logits of a call stay until the next but one.
  std::array<std::unique_ptr<cuda::PinnedMemory>, 2> logits_;
  std::size_t turn_ = 0;
};

}  // namespace sgmf::tensorrt
