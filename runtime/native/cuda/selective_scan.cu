// The C functions of selective_scan_cuda.h.
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/selective_scan_cuda.h"
#include "cuda/selective_scan_kernel.cuh"
#include "kernels/scan/selective_scan.h"

namespace sgmf::cuda {
namespace {

using Args = sgmf_selective_scan_args;

constexpr int64_t longest = 1 << 30;  // in tokens or channels
constexpr const char* too_large = "the scan needs more blocks than a GPU can count";

bool is_empty(const Args& args) { return !args.batch || !args.length || !args.channels; }

template <bool write_y>
const char* launch_chunks(const Scan& scan, cudaStream_t stream) {
  const auto kernel = scan.plan.group == 4   ? run_chunks<4, write_y>
                      : scan.plan.group == 8 ? run_chunks<8, write_y>
                                             : run_chunks<16, write_y>;
  const int64_t chunks = scan.plan.chunks - (write_y ? 0 : 1);
  const int64_t blocks = scan.args.batch * scan.plan.panels * chunks;
  return launch(kernel, blocks, scan.plan.threads, tile_bytes(scan.plan), stream, scan, too_large);
}

const char* launch_carries(const Scan& scan, cudaStream_t stream) {
  const int64_t columns = scan.args.states * scan.args.channels;
  const int64_t blocks = scan.args.batch * ((columns + carry_columns - 1) / carry_columns);
  return launch(pass_carries, blocks, carry_rows * carry_columns, carry_bytes(), stream, scan,
                too_large);
}

const char* launch_scan(const Scan& scan, cudaStream_t stream) {
  if (scan.plan.chunks > 1) {
    if (const char* error = launch_chunks<false>(scan, stream)) return error;
    if (const char* error = launch_carries(scan, stream)) return error;
  }
  return launch_chunks<true>(scan, stream);
}

}  // namespace
}  // namespace sgmf::cuda

extern "C" {

size_t sgmf_selective_scan_cuda_workspace(const sgmf_selective_scan_args* args,
                                          int32_t multiprocessors) {
  if (!args || multiprocessors < 1) return 0;
  sgmf_selective_scan_args sizes = *args;
  sizes.length = 0;  // of no tokens the pointers do not matter
  if (sgmf::check(sizes)) return 0;
  sizes.length = args->length;
  if (sizes.length < 1 || sgmf::cuda::is_empty(sizes)) return 0;
  return sgmf::cuda::workspace_bytes(sizes,
                                     sgmf::cuda::plan_scan(sizes, multiprocessors, SIZE_MAX));
}

const char* sgmf_selective_scan_cuda(const sgmf_selective_scan_args* args, void* workspace,
                                     size_t workspace_bytes, int32_t multiprocessors,
                                     void* cuda_stream) {
  if (!args) return "args may not be NULL";
  if (const char* error = sgmf::check(*args)) return error;
  if (multiprocessors < 1) return "multiprocessors must be 1 or more";
  if (workspace_bytes && !workspace) return "the workspace may not be NULL";
  if (reinterpret_cast<uintptr_t>(workspace) % alignof(float4)) {
    return "the workspace must be aligned to 16 bytes";
  }
  if (args->length > sgmf::cuda::longest || args->channels > sgmf::cuda::longest) {
    return "the length and the channels may not exceed 1,073,741,824";
  }
  if (sgmf::cuda::is_empty(*args)) return nullptr;
  const auto plan = sgmf::cuda::plan_scan(*args, multiprocessors, workspace_bytes);
  auto* state = static_cast<float*>(workspace);
  float* step_sum =
      state + (plan.chunks > 1 ? args->batch * plan.chunks * args->states * args->channels : 0);
  return sgmf::cuda::launch_scan({*args, plan, state, step_sum},
                                 static_cast<cudaStream_t>(cuda_stream));
}

const char* sgmf_cuda_device_count(int32_t* count) {
  if (!count) return "count may not be NULL";
  int found = 0;
  const char* error = sgmf::cuda::text(cudaGetDeviceCount(&found));
  *count = found;
  return error;
}

const char* sgmf_cuda_multiprocessors(int32_t* multiprocessors) {
  if (!multiprocessors) return "multiprocessors may not be NULL";
  int device = 0, found = 0;
  if (const char* error = sgmf::cuda::text(cudaGetDevice(&device))) return error;
  const cudaError_t error = cudaDeviceGetAttribute(&found, cudaDevAttrMultiProcessorCount, device);
  *multiprocessors = found;
  return sgmf::cuda::text(error);
}

}  // extern "C"
