#include "onnxruntime/ops/cpu_ops.h"

#include "kernels/scan/selective_scan.h"
#include "onnxruntime/ops/ort_token_ops.h"
#include "onnxruntime/ops/scan_op.h"
#include "onnxruntime/session/session_threads.h"

namespace sgmf::onnxruntime {
namespace {

Device cpu(int threads) {
  return {nullptr, [threads](const sgmf_selective_scan_args& args, const Call& call) {
            if (const char* error = check(args)) return error;
            const int useful = useful_threads(args, threads);
            return selective_scan(args, useful, session_threads(call.api, call.context), nullptr);
          }};
}

}  // namespace

Ops cpu_ops(const ort::ApiBase& base, const ort::Api& api, int threads) {
  Ops ops = scan_ops(base, api, cpu(threads));
  for (const auto& op : ort_token_ops(api, threads)) ops.push_back(op);
  return ops;
}

}  // namespace sgmf::onnxruntime
