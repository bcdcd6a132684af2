#include "cpu_ops.h"

#include "scan_op.h"
#include "selective_scan.h"

namespace sgmf::onnxruntime {
namespace {

ParallelFor session_threads(const Call& call) {
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
            if (const char* error = check(args)) return error;
            const int useful = useful_threads(args, threads);
            return selective_scan(args, useful, session_threads(call), nullptr);
          }};
}

}  // namespace

Ops cpu_ops(const ort::ApiBase& base, const ort::Api& api, int threads) {
  return scan_ops(base, api, cpu(threads));
}

}  // namespace sgmf::onnxruntime
