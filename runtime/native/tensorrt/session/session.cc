#include "tensorrt/session/session.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "cuda/sums/device_check.h"
#include "pipeline/geometry/box.h"

namespace sgmf::tensorrt {
namespace {

std::size_t bytes(int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

}  // namespace

Session::Slot::Slot(const std::shared_ptr<const cuda::Device>& device, int64_t tile_floats,
                    int64_t logit_floats)
    : tiles(device, static_cast<std::size_t>(tile_floats)),
      tiles_on_device(device, bytes(tile_floats)),
      logits_on_device(device, bytes(logit_floats)),
      stream(device),
      computed(device),
      used(device) {}

Session::Session(const Library& library, std::shared_ptr<const cuda::Device> device,
                 const std::string& engine, const Interface& interface)
    : device_(std::move(device)),
      tile_floats_(interface.inputs * voxel_count(interface.tile)),
      logit_floats_(interface.outputs * voxel_count(interface.tile)),
      engine_(library, device_, engine, interface) {
  for (auto& slot : slots_) {
    slot = std::make_unique<Slot>(device_, batch() * tile_floats_, batch() * logit_floats_);
  }
  for (auto& logits : logits_) {
    logits = std::make_unique<cuda::PinnedMemory>(
        device_, static_cast<std::size_t>(tiles_at_once() * logit_floats_));
  }
}

void Session::run(const float* tiles, int64_t count, float* logits) {
  std::memcpy(logits, lend(tiles, count), bytes(count * logit_floats_));
}

const float* Session::lend(const float* tiles, int64_t count) {
  const cuda::Current current(*device_);
  float* logits = logits_[turn_]->floats();
  turn_ = 1 - turn_;
  start_batches(tiles, count, [&](const Slot& slot, int64_t first, int64_t part) {
    slot.stream.copy_out(logits + first * logit_floats_, slot.logits_on_device.get(),
                         bytes(part * logit_floats_));
  });
  wait();
  return logits;
}

void Session::sum_on_device(const std::string& kernels) {
  cuda::check_labels(device_, kernels);
  sums_.emplace(device_, kernels, *this);
}

void Session::start(const float* tiles, int64_t count, cuda::DeviceLogits* logits) {
  const cuda::Current current(*device_);
  start_batches(tiles, count, [&](const Slot& slot, int64_t first, int64_t part) {
    for (int64_t i = 0; i < part; ++i) {
      logits[first + i] = {slot.logits_on_device.get() + bytes(i * logit_floats_),
                           slot.computed.get(), slot.used.get()};
    }
  });
}

template <typename F>
void Session::start_batches(const float* tiles, int64_t count, F each) {
  const cuda::Event* before = &slots_.back()->computed;
  try {
    int64_t first = 0;
    for (const auto& slot : slots_) {
      const int64_t part = std::min(count - first, batch());
      if (part <= 0) return;
      slot->stream.synchronize();  // the tiles before have left
      std::memcpy(slot->tiles.get(), tiles + first * tile_floats_, bytes(part * tile_floats_));
      slot->stream.copy_in(slot->tiles_on_device.get(), slot->tiles.get(),
                           bytes(part * tile_floats_));
      slot->stream.wait_for(before->get());
      slot->stream.wait_for(slot->used.get());
      engine_.compute(slot->stream, part, slot->tiles_on_device.get(),
                      slot->logits_on_device.get());
      slot->stream.record(slot->computed.get());
      before = &slot->computed;
      each(*slot, first, part);
      first += part;
    }
  } catch (...) {
    // Nothing may go on using the slots' memory.
    for (const auto& slot : slots_) device_->driver().stream_synchronize.call(slot->stream.get());
    throw;
  }
}

void Session::wait() const {
  std::exception_ptr failed;
  for (const auto& slot : slots_) {
    try {
      slot->stream.synchronize();
    } catch (const cuda::CudaError&) {
      failed = std::current_exception();
    }
  }
  if (failed) std::rethrow_exception(failed);
}

}  // namespace sgmf::tensorrt
