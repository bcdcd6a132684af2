// The C functions of the scan on a GPU, over the scan on the CPU: what calls
// them can then be tested where there is no GPU. The workspace must be the one
// that was asked for, and is filled with bytes that are not numbers.
#include <cstring>

#include "cuda/selective_scan_cuda.h"

namespace {

constexpr int32_t host_multiprocessors = 7;

}  // namespace

extern "C" {

size_t sgmf_selective_scan_cuda_workspace(const sgmf_selective_scan_args* args,
                                          int32_t multiprocessors) {
  return args->batch * args->channels * multiprocessors;
}

const char* sgmf_selective_scan_cuda(const sgmf_selective_scan_args* args, void* workspace,
                                     size_t workspace_bytes, int32_t multiprocessors, void*) {
  if (workspace_bytes != sgmf_selective_scan_cuda_workspace(args, multiprocessors)) {
    return "the workspace is not the one asked for";
  }
  if (workspace_bytes && !workspace) return "there is no workspace";
  if (workspace_bytes) std::memset(workspace, 255, workspace_bytes);
  return sgmf_selective_scan(args, 1, nullptr);
}

const char* sgmf_cuda_multiprocessors(int32_t* multiprocessors) {
  *multiprocessors = host_multiprocessors;
  return nullptr;
}

}  // extern "C"
