// A CUDA driver on host memory, by the prototypes of CUDA's own header: what calls it has the names
// and the arguments right. Streams run as late as they may: work is done when its stream is waited
// for, or when work of another depends on it. Whoever reads a result before waiting, or reuses
// memory that is still needed, gets wrong numbers, as on a device.
#include <cuda.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

// Work up to where an event was recorded.
struct Point {
  CUstream stream;
  bool reached = false;
};
struct CUstream_st {
  std::deque<std::function<void()>> work;
};
struct CUevent_st {
  std::shared_ptr<Point> point;
};

namespace {

constexpr int kDevice = 0;
char context_place;
std::map<const void*, size_t> held;  // all that was given and not taken back, and its bytes
size_t limit = 0;                    // of memory; 0: constants of a large device
size_t copied_out = 0;
std::map<std::string, CUresult> failing;  // by the name of a function
thread_local std::vector<CUcontext> current;
std::recursive_mutex mutex;  // over the work of all threads

CUcontext the_context() { return reinterpret_cast<CUcontext>(&context_place); }

// What a call returns before it does anything: what the test wants of it, or that the device is not
// current on this thread.
CUresult verdict(const char* function, bool needs_context = true) {
  const auto found = failing.find(function);
  if (found != failing.end()) return found->second;
  const bool ready = !needs_context || (!current.empty() && current.back() == the_context());
  return ready ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

template <typename F>
CUresult attempt(const char* function, F&& body) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const CUresult result = verdict(function);
  return result == CUDA_SUCCESS ? body() : result;
}

void drain(CUstream stream, const Point* until = nullptr) {
  while (!stream->work.empty() && !(until && until->reached)) {
    const auto next = std::move(stream->work.front());
    stream->work.pop_front();
    next();
  }
}

CUresult add(CUstream stream, std::function<void()> work) {
  if (!held.count(stream)) return CUDA_ERROR_INVALID_HANDLE;
  stream->work.push_back(std::move(work));
  return CUDA_SUCCESS;
}

size_t used_bytes() {
  size_t sum = 0;
  for (const auto& [address, bytes] : held) sum += bytes;
  return sum;
}

size_t free_bytes() {
  const size_t used = used_bytes();
  return limit ? limit - std::min(limit, used) : size_t{60} << 30;
}

CUresult free_memory(void* address) {
  if (!held.erase(address)) return CUDA_ERROR_INVALID_VALUE;
  std::free(address);
  return CUDA_SUCCESS;
}

}  // namespace

EXPORT void fail(const char* function, int code) {
  if (code) {
    failing[function] = static_cast<CUresult>(code);
  } else {
    failing.erase(function);
  }
}

// Memory, streams and events that live.
EXPORT int count_held() { return static_cast<int>(held.size()); }

EXPORT size_t count_used_bytes() { return used_bytes(); }

// Copied from the device to the host, ever.
EXPORT size_t count_copied_out_bytes() { return copied_out; }

// How much memory there is; 0: that of a large device, whatever is used.
EXPORT void limit_memory(size_t bytes) { limit = bytes; }

// Lets a stream do work that may fail; then all that is waited for fails, as after a kernel.
EXPORT int launch(CUstream stream, int (*work)(void*), void* data) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  return add(stream, [=] {
    if (work(data)) failing["cuStreamSynchronize"] = CUDA_ERROR_LAUNCH_FAILED;
  });
}

// Contexts on this thread's stack.
EXPORT int count_current() { return static_cast<int>(current.size()); }

EXPORT CUresult CUDAAPI cuInit(unsigned int flags) {
  const CUresult result = verdict("cuInit", false);
  return result == CUDA_SUCCESS && flags != 0 ? CUDA_ERROR_INVALID_VALUE : result;
}

EXPORT CUresult CUDAAPI cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuGetErrorName(CUresult, const char** text) {
  *text = "A_NAME";
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuGetErrorString(CUresult, const char** text) {
  *text = "a text";
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceGetCount(int* count) {
  *count = failing.count("devices") ? 0 : 1;
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
  *device = kDevice;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult CUDAAPI cuDeviceGetName(char* name, int length, CUdevice) {
  std::strncpy(name, "Host", static_cast<size_t>(length));
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = 0; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceTotalMem(size_t* bytes, CUdevice) {
  *bytes = size_t{80} << 30;
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = the_context();
  return verdict("cuDevicePrimaryCtxRetain", false);
}

EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }

EXPORT CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  if (context != the_context()) return CUDA_ERROR_INVALID_CONTEXT;
  if (current.empty()) current.emplace_back();
  current.back() = context;
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  if (context != the_context()) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(context);
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
  if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuMemGetInfo(size_t* available, size_t* total) {
  *available = free_bytes();
  *total = limit ? limit : size_t{80} << 30;
  return verdict("cuMemGetInfo");
}

EXPORT CUresult CUDAAPI cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  return attempt("cuMemAlloc", [&] {
    if (bytes > free_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
    void* memory = std::malloc(bytes);
    held[memory] = bytes;
    *address = reinterpret_cast<CUdeviceptr>(memory);
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult CUDAAPI cuMemFree(CUdeviceptr address) {
  return attempt("cuMemFree", [&] { return free_memory(reinterpret_cast<void*>(address)); });
}

EXPORT CUresult CUDAAPI cuMemHostAlloc(void** address, size_t bytes, unsigned int flags) {
  return attempt("cuMemHostAlloc", [&] {
    *address = std::malloc(bytes);
    held[*address] = 0;
    return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

EXPORT CUresult CUDAAPI cuMemFreeHost(void* address) {
  return attempt("cuMemFreeHost", [&] { return free_memory(address); });
}

EXPORT CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr target, const void* source, size_t bytes,
                                          CUstream stream) {
  return attempt("cuMemcpyHtoDAsync", [&] {
    return add(stream, [=] { std::memcpy(reinterpret_cast<void*>(target), source, bytes); });
  });
}

EXPORT CUresult CUDAAPI cuMemcpyDtoHAsync(void* target, CUdeviceptr source, size_t bytes,
                                          CUstream stream) {
  return attempt("cuMemcpyDtoHAsync", [&] {
    copied_out += bytes;
    return add(stream, [=] { std::memcpy(target, reinterpret_cast<void*>(source), bytes); });
  });
}

EXPORT CUresult CUDAAPI cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
  return attempt("cuLaunchHostFunc", [&] { return add(stream, [=] { function(data); }); });
}

EXPORT CUresult CUDAAPI cuStreamCreate(CUstream* stream, unsigned int flags) {
  return attempt("cuStreamCreate", [&] {
    *stream = new CUstream_st;
    held[*stream] = 0;
    return flags == CU_STREAM_NON_BLOCKING ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

EXPORT CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
  return attempt("cuStreamDestroy", [&] {
    if (!held.erase(stream)) return CUDA_ERROR_INVALID_HANDLE;
    delete stream;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (!held.count(stream)) return CUDA_ERROR_INVALID_HANDLE;
  drain(stream);
  return verdict("cuStreamSynchronize");
}

EXPORT CUresult CUDAAPI cuEventCreate(CUevent* event, unsigned int flags) {
  return attempt("cuEventCreate", [&] {
    *event = new CUevent_st;
    held[*event] = 0;
    return flags == CU_EVENT_DISABLE_TIMING ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

EXPORT CUresult CUDAAPI cuEventDestroy(CUevent event) {
  return attempt("cuEventDestroy", [&] {
    if (!held.erase(event)) return CUDA_ERROR_INVALID_HANDLE;
    delete event;
    return CUDA_SUCCESS;
  });
}

EXPORT CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
  return attempt("cuEventRecord", [&] {
    if (!held.count(event)) return CUDA_ERROR_INVALID_HANDLE;
    const auto point = std::make_shared<Point>(Point{stream});
    event->point = point;
    return add(stream, [point] { point->reached = true; });
  });
}

EXPORT CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  return attempt("cuStreamWaitEvent", [&] {
    if (!held.count(event) || flags != 0) return CUDA_ERROR_INVALID_HANDLE;
    const auto point = event->point;
    return add(stream, [point] {
      if (point) drain(point->stream, point.get());
    });
  });
}
