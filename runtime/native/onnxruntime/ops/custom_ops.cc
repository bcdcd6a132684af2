// The op library that ONNX Runtime loads: domain `segmaformer`, op `SelectiveScan` on the CPU.
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kernels/interface/selective_scan.h"
#include "kernels/parallel.h"
#include "onnxruntime/ops/cpu_ops.h"
#include "onnxruntime/ops/tensor_memory.h"

namespace {

using namespace sgmf::onnxruntime;

// Session configuration entry, read on registration: how many threads the session has.
// Without it the scan plans for every processor, which costs time where the session has fewer.
constexpr const char* threads_entry = "segmaformer.threads";

int planned_threads(const ort::Api& api, const ort::SessionOptions* options) {
  int given = 0;
  require(api.has_config(options, threads_entry, &given));
  if (!given) return sgmf::available_threads();
  size_t size = 0;
  require(api.config(options, threads_entry, nullptr, &size));
  std::vector<char> text(size);
  require(api.config(options, threads_entry, text.data(), &size));
  const int threads = std::atoi(text.data());
  if (threads >= 1) return threads;
  throw std::invalid_argument(std::string(threads_entry) + " must be a positive integer; found " +
                              text.data());
}

// Sessions keep borrowing a domain until they end, which may be after static objects do: none is
// ever freed.
const OpDomain& domain_for(const ort::ApiBase& base, const void* const* table, int threads) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, const OpDomain*> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  const OpDomain*& domain = domains[{table, threads}];
  const ort::Api api(table);
  if (!domain) domain = new OpDomain(api, cpu_ops(base, api, threads));
  return *domain;
}

}  // namespace

extern "C" SGMF_API ort::Status* RegisterCustomOps(ort::SessionOptions* options,
                                                   const ort::ApiBase* base) {
  const void* const* table = base->GetApi(ort::api_version);
  if (!table) return nullptr;  // older than 1.18: the model then fails to load, naming the op
  const ort::Api api(table);
  return guarded(api, [&] {
    domain_for(*base, table, planned_threads(api, options)).add_to(options);
    use_page_pool(api, options);
  });
}
