// As much of CUDA as the kernels use, on the processor: tests put this folder in front of CUDA's.
//
// A launch runs its blocks one after the other and the threads of a block as fibers, each until
// it waits at a barrier. Shared memory is filled with NaN before each block, and a block whose
// threads wait for each other in vain, or that writes behind its shared memory, makes the launch
// fail. With a driver that stands in, see cuda_on_host_launch_with, a launch runs when its stream
// comes to it, else at once. What this cannot show: the order of memory accesses between warps and
// blocks that really run at once, alignment, the rounding of the device's own functions, and time.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

#define __device__
#define __global__
#define __shared__
#define __launch_bounds__(...)

struct alignas(16) float4 {
  float x, y, z, w;
};

struct alignas(8) float2 {
  float x, y;
};

inline float2 make_float2(float x, float y) { return {x, y}; }

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

using cudaStream_t = void*;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
void __syncthreads();
float __shfl_xor_sync(unsigned lanes, float value, int distance);

// Single operations, which the compiler of the tests is told not to fuse.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
using std::isfinite;

// The device's quick division gives zero for the largest divisors.
inline float __fdividef(float a, float b) {
  return std::fabs(b) > 0x1p126f && !std::isinf(b) && !std::isnan(a) ? 0.0f : a / b;
}

namespace cuda_on_host {

// A launch, and what each thread of each block does.
struct Launch {
  explicit Launch(const cudaLaunchConfig_t& given) : config(given) {}
  virtual ~Launch() = default;
  virtual void run_thread() const = 0;

  const cudaLaunchConfig_t config;
};

cudaError_t start(std::unique_ptr<const Launch> launch);

template <typename Parameter>
struct LaunchOf : Launch {
  LaunchOf(const cudaLaunchConfig_t& given, void (*run)(Parameter), const Parameter& with)
      : Launch(given),
        kernel(run),
        parameter(with) {}
  void run_thread() const override { kernel(parameter); }

  void (*const kernel)(Parameter);
  const Parameter parameter;
};

}  // namespace cuda_on_host

template <typename Parameter>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameter),
                               const Parameter& parameter) {
  return cuda_on_host::start(
      std::make_unique<cuda_on_host::LaunchOf<Parameter>>(*config, kernel, parameter));
}
