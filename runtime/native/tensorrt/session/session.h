// A network in an engine of TensorRT.
//
// Two slots of pinned and device memory, each with its own stream, take turns: while one computes,
// the tiles of the other are copied in and its logits out, unless they are summed on the device.
// The engine's scratch memory exists once, so computations follow each other by an event.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "cuda/sums/logit_device.h"
#include "pipeline/tiles/network.h"
#include "tensorrt/session/engine.h"

namespace sgmf::tensorrt {

class Session : public Network, public cuda::DeviceNetwork {
 public:
  // As Engine; the device has to be current here alone.
  Session(const Library& library, std::shared_ptr<const cuda::Device> device,
          const std::string& engine, const Interface& interface);

  // Lets logits be summed on the device from now on, by `kernels`, the path of libsgmf_cuda, once
  // they were seen to give the processor's labels. Throws BackendMissing and Error(backend).
  void sum_on_device(const std::string& kernels);

  int64_t batch() const { return engine_.batch(); }

  int64_t tiles_at_once() const override { return slots * engine_.batch(); }
  bool overlap() const override { return true; }
  bool lends() const override { return true; }

  // Throw Error(backend): the device failed.
  void run(const float* tiles, int64_t count, float* logits) override;
  const float* lend(const float* tiles, int64_t count) override;
  LogitDevice* device() override { return sums_ ? &*sums_ : nullptr; }

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
    cuda::Event used;  // the logits on the device, by whoever sums them there
  };

  void start(const float* tiles, int64_t count, cuda::DeviceLogits* logits) override;
  // Starts a batch in each slot. `each` is called with the slot, its first tile and their number.
  template <typename F>
  void start_batches(const float* tiles, int64_t count, F each);
  void wait() const;

  std::shared_ptr<const cuda::Device> device_;
  int64_t tile_floats_;   // of one tile, all channels
  int64_t logit_floats_;  // of one tile, all classes
  Engine engine_;
  std::array<std::unique_ptr<Slot>, slots> slots_;
  // Logits of a call stay until the next but one.
  std::array<std::unique_ptr<cuda::PinnedMemory>, 2> logits_;
  std::size_t turn_ = 0;
  std::optional<cuda::CudaLogitDevice> sums_;
};

}  // namespace sgmf::tensorrt
