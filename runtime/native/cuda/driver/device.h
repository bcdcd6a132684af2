// A device and its resources: memory, streams and events, freed with the object that holds them.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "cuda/driver/driver.h"

namespace sgmf::cuda {

struct DeviceFacts {
  std::string name;
  std::string compute_capability;  // such as 8.7
  std::size_t memory_bytes;
  bool integrated;  // its memory is the processor's own, as on a Jetson
};

// The first device that the driver shows. CUDA_VISIBLE_DEVICES decides which that is.
class Device {
 public:
  // `driver` is the path of its library, or empty for the system's. Throws BackendMissing: there is
  // no driver or no device.
  explicit Device(const std::string& driver = "");
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return driver_; }
  const DeviceFacts& facts() const { return facts_; }
  Context context() const { return context_; }
  // Of its memory, now. It has to be current.
  std::size_t free_bytes() const;

  // Adds the requested size to `error` if that is a lack of memory.
  Error explained(const CudaError& error, std::size_t bytes) const;

 private:
  DeviceFacts read_facts() const;

  Driver driver_;
  DeviceNumber number_ = 0;
  DeviceFacts facts_;
  Context context_ = nullptr;
};

// Makes a device current for this thread; the end of its scope restores the previous one, since the
// thread is the calling program's.
class Current {
 public:
  // Throws CudaError.
  explicit Current(const Device& device) : Current(device, std::nothrow) {
    driver_.check(driver_.context_push.name, pushed_);
  }
  // For destructors. It fails only if the device has failed: then nothing can be freed, and the
  // error is ignored.
  Current(const Device& device, std::nothrow_t) noexcept
      : driver_(device.driver()),
        pushed_(driver_.context_push.call(device.context())) {}
  ~Current() {
    Context gone = nullptr;
    if (pushed_ == 0) driver_.context_pop.call(&gone);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const Driver& driver_;
  Result pushed_;
};

// A resource of the driver, and the function that frees it.
template <typename Handle>
class Held {
 public:
  using Free = Function<Handle> Driver::*;

  Held(std::shared_ptr<const Device> device, Free free, Handle handle)
      : device_(std::move(device)),
        free_(free),
        handle_(handle) {}
  ~Held() {
    const Current current(*device_, std::nothrow);
    (device_->driver().*free_).call(handle_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  Handle get() const { return handle_; }

 private:
  std::shared_ptr<const Device> device_;
  Free free_;
  Handle handle_;
};

// Functions that create something need its device to be current, and throw Error(backend).

class DeviceMemory : public Held<Address> {
 public:
  DeviceMemory(const std::shared_ptr<const Device>& device, std::size_t bytes);
};

// Numbers in host memory that the device copies from and to directly.
class PinnedMemory : public Held<void*> {
 public:
  PinnedMemory(const std::shared_ptr<const Device>& device, std::size_t count);
  float* floats() const { return static_cast<float*>(get()); }
};

// A point in a stream's work.
class Event : public Held<EventHandle> {
 public:
  explicit Event(const std::shared_ptr<const Device>& device);
};

// Work that the device does in order, beside that of other streams.
class Stream : public Held<StreamHandle> {
 public:
  explicit Stream(const std::shared_ptr<const Device>& device);

  // Queue a copy; the memory has to stay until the work is done.
  void copy_in(Address target, const void* source, std::size_t bytes) const;
  void copy_out(void* target, Address source, std::size_t bytes) const;
  // Triggers `event` when the work so far is done.
  void record(EventHandle event) const;
  // Lets later work wait for `event`, if it was ever recorded.
  void wait_for(EventHandle event) const;
  // Waits until all work is done. Throws CudaError: some of it failed.
  void synchronize() const;

 private:
  const Driver& driver_;
};

}  // namespace sgmf::cuda
