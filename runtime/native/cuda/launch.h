// Launching a kernel that takes one struct.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace sgmf::cuda {

inline const char* text(cudaError_t error) {
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// `too_large` is the error where a GPU cannot count the blocks.
template <typename Parameter>
const char* launch(void (*kernel)(Parameter), int64_t blocks, int threads, std::size_t shared_bytes,
                   void* stream, const Parameter& parameter, const char* too_large) {
  if (blocks > INT32_MAX) return too_large;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  return text(cudaLaunchKernelEx(&config, kernel, parameter));
}

}  // namespace sgmf::cuda
