#include "cuda/driver/device.h"

#include <array>

#include "system/backend_missing.h"

namespace sgmf::cuda {
namespace {

constexpr Result out_of_memory = 2;
// CU_DEVICE_ATTRIBUTE_*
constexpr int integrated_attribute = 18, major_attribute = 75, minor_attribute = 76;
constexpr unsigned non_blocking = 1;    // CU_STREAM_NON_BLOCKING
constexpr unsigned without_timing = 2;  // CU_EVENT_DISABLE_TIMING
constexpr std::size_t mib = 1024 * 1024;

Address allocate(const Device& device, std::size_t bytes) {
  Address address = 0;
  try {
    device.driver().call(device.driver().memory_allocate, &address, bytes);
  } catch (const CudaError& error) {
    throw device.explained(error, bytes);
  }
  return address;
}

void* allocate_pinned(const Device& device, std::size_t bytes) {
  void* address = nullptr;
  try {
    device.driver().call(device.driver().pinned_allocate, &address, bytes, 0u);
  } catch (const CudaError& error) {
    throw device.explained(error, bytes);
  }
  return address;
}

EventHandle create_event(const Driver& driver) {
  EventHandle event = nullptr;
  driver.call(driver.event_create, &event, without_timing);
  return event;
}

StreamHandle create_stream(const Driver& driver) {
  StreamHandle stream = nullptr;
  driver.call(driver.stream_create, &stream, non_blocking);
  return stream;
}

}  // namespace

Device::Device(const std::string& driver) : driver_(driver) {
  int count = 0;
  driver_.call(driver_.device_get_count, &count);
  if (count < 1) {
    throw BackendMissing("the NVIDIA driver shows no device; check CUDA_VISIBLE_DEVICES");
  }
  driver_.call(driver_.device_get, &number_, 0);
  facts_ = read_facts();
  driver_.call(driver_.context_retain, &context_, number_);
}

Device::~Device() { driver_.context_release.call(number_); }

DeviceFacts Device::read_facts() const {
  const auto attribute = [this](int which) {
    int value = 0;
    driver_.call(driver_.device_get_attribute, &value, which, number_);
    return value;
  };
  std::array<char, 256> name{};
  driver_.call(driver_.device_get_name, name.data(), static_cast<int>(name.size()), number_);
  name.back() = '\0';
  DeviceFacts facts;
  facts.name = name.data();
  facts.compute_capability =
      std::to_string(attribute(major_attribute)) + "." + std::to_string(attribute(minor_attribute));
  facts.integrated = attribute(integrated_attribute) != 0;
  driver_.call(driver_.device_total_memory, &facts.memory_bytes, number_);
  return facts;
}

std::size_t Device::free_bytes() const {
  std::size_t free = 0, total = 0;
  driver_.call(driver_.memory_info, &free, &total);
  return free;
}

Error Device::explained(const CudaError& error, std::size_t bytes) const {
  if (error.result() != out_of_memory) return error;
  const auto in_mib = [](std::size_t size) { return std::to_string(size / mib); };
  return Error(ErrorCode::backend, facts_.name + " has too little memory: " +
                                       in_mib(bytes + mib - 1) + " MiB were asked for, " +
                                       in_mib(free_bytes()) + " of " + in_mib(facts_.memory_bytes) +
                                       " MiB are free. End other programs on the device, or "
                                       "build with a smaller --batch");
}

DeviceMemory::DeviceMemory(const std::shared_ptr<const Device>& device, std::size_t bytes)
    : Held(device, &Driver::memory_free, allocate(*device, bytes)) {}

PinnedMemory::PinnedMemory(const std::shared_ptr<const Device>& device, std::size_t count)
    : Held(device, &Driver::pinned_free, allocate_pinned(*device, count * sizeof(float))) {}

Event::Event(const std::shared_ptr<const Device>& device)
    : Held(device, &Driver::event_destroy, create_event(device->driver())) {}

Stream::Stream(const std::shared_ptr<const Device>& device)
    : Held(device, &Driver::stream_destroy, create_stream(device->driver())),
      driver_(device->driver()) {}

void Stream::copy_in(Address target, const void* source, std::size_t bytes) const {
  driver_.call(driver_.copy_in, target, source, bytes, get());
}

void Stream::copy_out(void* target, Address source, std::size_t bytes) const {
  driver_.call(driver_.copy_out, target, source, bytes, get());
}

void Stream::record(EventHandle event) const { driver_.call(driver_.event_record, event, get()); }

void Stream::wait_for(EventHandle event) const {
  driver_.call(driver_.stream_wait_event, get(), event, 0u);
}

void Stream::synchronize() const { driver_.call(driver_.stream_synchronize, get()); }

}  // namespace sgmf::cuda
