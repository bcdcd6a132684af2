// The op library of ONNX Runtime's CUDA provider: domain `segmaformer`, op `SelectiveScan`.
//
// A test builds it for the CPU provider, over a scan on the CPU, to run it without a device.
#include <map>
#include <mutex>

#include "cuda/selective_scan_cuda.h"
#include "onnxruntime/ops/scan_op.h"

#ifndef SGMF_PROVIDER
#define SGMF_PROVIDER "CUDAExecutionProvider"
#endif

namespace {

using namespace sgmf::onnxruntime;

// Memory of the device for what is enqueued on one stream: whoever gets it next on that stream
// comes later, and ONNX Runtime keeps it from other streams.
class Scratch {
 public:
  Scratch(const Call& call, size_t bytes) : api_(call.api) {
    if (!bytes) return;
    const ort::MemoryInfo* where = nullptr;
    require(api_.memory_info(call.u, &where));
    require(api_.allocator(call.context, where, &allocator_));
    if (ort::Status* failed = api_.scratch(call.context, where, bytes, &memory_)) {
      api_.release_allocator(allocator_);
      throw StatusError{failed};
    }
  }
  ~Scratch() {
    if (!allocator_) return;
    if (ort::Status* failed = api_.free(allocator_, memory_)) api_.release_status(failed);
    api_.release_allocator(allocator_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* memory() const { return memory_; }

 private:
  const ort::Api& api_;
  ort::Allocator* allocator_ = nullptr;
  void* memory_ = nullptr;
};

const char* scan(const sgmf_selective_scan_args& args, const Call& call) {
  int32_t multiprocessors = 0;
  if (const char* error = sgmf_cuda_multiprocessors(&multiprocessors)) return error;
  const size_t bytes = sgmf_selective_scan_cuda_workspace(&args, multiprocessors);
  const Scratch scratch(call, bytes);
  void* stream = nullptr;
  require(call.api.compute_stream(call.context, &stream));
  return sgmf_selective_scan_cuda(&args, scratch.memory(), bytes, multiprocessors, stream);
}

// Sessions keep borrowing a domain until they end, which may be after static objects do: none is
// ever freed.
const OpDomain& domain_for(const ort::ApiBase& base, const void* const* table) {
  static std::mutex mutex;
  static std::map<const void*, const OpDomain*> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  const OpDomain*& domain = domains[table];
  const ort::Api api(table);
  if (!domain) domain = new OpDomain(api, scan_ops(base, api, {SGMF_PROVIDER, scan}));
  return *domain;
}

}  // namespace

extern "C" SGMF_API ort::Status* RegisterCustomOps(ort::SessionOptions* options,
                                                   const ort::ApiBase* base) {
  const void* const* table = base->GetApi(ort::api_version);
  if (!table) return nullptr;  // older than 1.18: the model then fails to load, naming the op
  const ort::Api api(table);
  return guarded(api, [&] { domain_for(*base, table).add_to(options); });
}
