#include "tensorrt/session/session.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

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
      computed(device) {}

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
  try {
    start(tiles, count, logits);
  } catch (...) {
    // Nothing may go on using the slots' memory.
    for (const auto& slot : slots_) device_->driver().stream_synchronize.call(slot->stream.get());
    throw;
  }
  wait();
  return logits;
}

// Starts a batch in each slot. All work of the last call is done.
void Session::start(const float* tiles, int64_t count, float* logits) {
  const cuda::Event* before = nullptr;
  for (const auto& slot : slots_) {
    const int64_t part = std::min(count, batch());
    if (part <= 0) return;
    std::memcpy(slot->tiles.get(), tiles, bytes(part * tile_floats_));
    slot->stream.copy_in(slot->tiles_on_device.get(), slot->tiles.get(),
                         bytes(part * tile_floats_));
    if (before) slot->stream.wait_for(*before);
    engine_.compute(slot->stream, part, slot->tiles_on_device.get(), slot->logits_on_device.get());
    slot->stream.record(slot->computed);
    before = &slot->computed;
    slot->stream.copy_out(logits, slot->logits_on_device.get(), bytes(part * logit_floats_));
    count -= part;
    tiles += part * tile_floats_;
    logits += part * logit_floats_;
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
