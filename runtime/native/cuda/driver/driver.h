// The few calls of the CUDA driver that a session needs. libcuda comes with every NVIDIA driver, on
// a Jetson as well, and is loaded at run time. Mirrors runtime/bindings/cuda_driver.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "pipeline/error.h"
#include "system/shared_library.h"

namespace sgmf::cuda {

// Types of CUDA's own header, which is not needed to build this.
using Result = int;
using DeviceNumber = int;
using Context = void*;
using StreamHandle = void*;
using EventHandle = void*;
using Address = uint64_t;  // on the device

// A function of the driver, and its name in the library.
template <typename... Arguments>
struct Function {
  const char* name;
  Result (*call)(Arguments...) = nullptr;
};

// Failure of a driver's function, with its name and CUDA's own text.
class CudaError : public Error {
 public:
  CudaError(const std::string& function, Result code, const std::string& words)
      : Error(ErrorCode::backend, "the NVIDIA driver's " + function + " failed with " + words),
        result_(code) {}

  Result result() const { return result_; }

 private:
  Result result_;
};

// The loaded and initialised driver.
class Driver {
 public:
  // `library` is its path, or empty for the system's. Throws BackendMissing: there is no driver, or
  // it finds no device that it can use.
  explicit Driver(const std::string& library = "");

  template <typename... Arguments, typename... Given>
  void call(const Function<Arguments...>& function, Given... given) const {
    check(function.name, function.call(given...));
  }
  // Throws CudaError if `code`, returned by a function, is not success.
  void check(const char* function, Result code) const {
    if (code != 0) throw CudaError(function, code, words(code));
  }

  // CUDA version that the driver supports, such as 12.6.
  std::string version() const;

  Function<int*, DeviceNumber> device_get{"cuDeviceGet"};
  Function<int*> device_get_count{"cuDeviceGetCount"};
  Function<char*, int, DeviceNumber> device_get_name{"cuDeviceGetName"};
  Function<int*, int, DeviceNumber> device_get_attribute{"cuDeviceGetAttribute"};
  Function<std::size_t*, DeviceNumber> device_total_memory{"cuDeviceTotalMem_v2"};
  Function<Context*, DeviceNumber> context_retain{"cuDevicePrimaryCtxRetain"};
  Function<DeviceNumber> context_release{"cuDevicePrimaryCtxRelease_v2"};
  Function<Context> context_push{"cuCtxPushCurrent_v2"};
  Function<Context*> context_pop{"cuCtxPopCurrent_v2"};
  Function<std::size_t*, std::size_t*> memory_info{"cuMemGetInfo_v2"};
  Function<Address*, std::size_t> memory_allocate{"cuMemAlloc_v2"};
  Function<Address> memory_free{"cuMemFree_v2"};
  Function<void**, std::size_t, unsigned> pinned_allocate{"cuMemHostAlloc"};
  Function<void*> pinned_free{"cuMemFreeHost"};
  Function<Address, const void*, std::size_t, StreamHandle> copy_in{"cuMemcpyHtoDAsync_v2"};
  Function<void*, Address, std::size_t, StreamHandle> copy_out{"cuMemcpyDtoHAsync_v2"};
  Function<StreamHandle*, unsigned> stream_create{"cuStreamCreate"};
  Function<StreamHandle> stream_destroy{"cuStreamDestroy_v2"};
  Function<StreamHandle> stream_synchronize{"cuStreamSynchronize"};
  Function<StreamHandle, EventHandle, unsigned> stream_wait_event{"cuStreamWaitEvent"};
  Function<EventHandle*, unsigned> event_create{"cuEventCreate"};
  Function<EventHandle> event_destroy{"cuEventDestroy_v2"};
  Function<EventHandle, StreamHandle> event_record{"cuEventRecord"};

 private:
  std::string words(Result code) const;
  template <typename... Arguments>
  void find(Function<Arguments...>& function) const;

  SharedLibrary library_;
  Function<unsigned> init{"cuInit"};
  Function<int*> get_version{"cuDriverGetVersion"};
  Function<Result, const char**> get_error_name{"cuGetErrorName"};
  Function<Result, const char**> get_error_text{"cuGetErrorString"};
};

// Release of the installed driver, such as 570.124.06, from the first of the files that exists;
// nothing if none states it.
std::optional<std::string> driver_release(
    std::initializer_list<const char*> files = {
        "/sys/module/nvidia/version",  // discrete GPUs, and Jetson since JetPack 6
        "/etc/nv_tegra_release"});

}  // namespace sgmf::cuda
