// The op library that ONNX Runtime loads: domain `segmaformer`, op `SelectiveScan` on the CPU.
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "scan_op.h"
#include "selective_scan.h"

namespace {

using namespace sgmf::onnxruntime;

// Session configuration entry, read on registration: how many threads the session has.
// Without it the scan plans for every processor, which costs time where the session has fewer.
constexpr const char* threads_entry = "segmaformer.threads";

sgmf::ParallelFor session_threads(const Call& call) {
  return [&call](size_t tasks, const std::function<void(size_t)>& task) {
    const auto run = [](void* data, size_t i) {
      (*static_cast<const std::function<void(size_t)>*>(data))(i);
    };
    require(call.api.parallel_for(call.context, run, tasks, 0,
                                  const_cast<std::function<void(size_t)>*>(&task)));
  };
}

Device cpu(int threads) {
  return {nullptr, [threads](const sgmf_selective_scan_args& args, const Call& call) {
            if (const char* error = sgmf::check(args)) return error;
            const int useful = sgmf::useful_threads(args, threads);
            return sgmf::selective_scan(args, useful, session_threads(call), nullptr);
          }};
}

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

ort::CustomOpDomain* domain_for(const ort::ApiBase& base, const void* const* table, int threads) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, ort::CustomOpDomain*> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  ort::CustomOpDomain*& domain = domains[{table, threads}];
  if (!domain) domain = make_domain(base, ort::Api(table), cpu(threads));
  return domain;
}

}  // namespace

extern "C" SGMF_API ort::Status* RegisterCustomOps(ort::SessionOptions* options,
                                                   const ort::ApiBase* base) {
  const void* const* table = base->GetApi(ort::api_version);
  if (!table) return nullptr;  // older than 1.18: the model then fails to load, naming the op
  const ort::Api api(table);
  return guarded(api, [&] {
    require(api.add_domain(options, domain_for(*base, table, planned_threads(api, options))));
  });
}
