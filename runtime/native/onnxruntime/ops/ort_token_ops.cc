#include "onnxruntime/ops/ort_token_ops.h"

#include <mutex>
#include <string>
#include <vector>

#include "kernels/token_ops/token_op.h"
#include "onnxruntime/ops/op_support.h"
#include "onnxruntime/session/session_threads.h"

namespace sgmf::onnxruntime {
namespace {

struct OrtTokenOp : ort::CustomOp {
  OrtTokenOp(const ort::Api& api, const TokenOp& op, int threads);
  ort::Api api;
  const TokenOp& op;
  int threads;
};

struct Kernel {
  const OrtTokenOp& self;
  Attributes attributes;
  bool keeps_weights = false;  // constant ones of an op that packs them
  std::once_flag packing;
  std::vector<float> packed;
};

// Whether a node has the attribute that was asked for.
bool found(const ort::Api& api, ort::Status* status) {
  if (status) api.release_status(status);
  return !status;
}

// `count` values, if the node has any.
template <typename T>
void read_array(const ort::Api& api, const ort::KernelInfo* info, const char* name, T* values,
                size_t count) {
  T* const none = nullptr;
  size_t size = 0;
  if (!found(api, api.array_attribute(info, name, none, &size))) return;
  if (size != count) {
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(count) +
                                " values; found " + std::to_string(size));
  }
  require(api.array_attribute(info, name, values, &size));
}

// What a node leaves out keeps its default, which the op refuses where it needs a value.
Attributes read_attributes(const ort::Api& api, const ort::KernelInfo* info, const TokenOp& op) {
  Attributes read;
  const Attributes absent;
  if (!found(api, api.int_attribute(info, "group", &read.group))) read.group = absent.group;
  if (!found(api, api.float_attribute(info, "epsilon", &read.epsilon))) {
    read.epsilon = absent.epsilon;
  }
  if (!found(api, api.float_attribute(info, "alpha", &read.alpha))) read.alpha = absent.alpha;
  read_array(api, info, "scales", read.scales.data(), read.scales.size());
  read_array(api, info, "strides", read.strides.data(), read.strides.size());
  read_array(api, info, "pads", read.pads.data(), 2 * op.axes);
  return read;
}

ort::Status* create(const ort::CustomOp* op, const void* const*, const ort::KernelInfo* info,
                    void** out) {
  const auto& self = *static_cast<const OrtTokenOp*>(op);
  return guarded(self.api, [&] {
    int constant = 0;
    const ort::Value* weights = nullptr;
    if (self.op.pack) require(self.api.constant_input(info, 1, &constant, &weights));
    *out = new Kernel{self, read_attributes(self.api, info, self.op), constant != 0, {}, {}};
  });
}

void run(Kernel& kernel, ort::KernelContext* context) {
  const ort::Api& api = kernel.self.api;
  const TokenOp& op = kernel.self.op;
  TokenOpCall call{{}, kernel.attributes};
  for (size_t i = 0; i < op.input_count; ++i) {
    call.inputs.push_back(read_tensor(api, read_value(api, context, i)));
  }
  const Shape shape = op.check(call);
  auto* y = static_cast<float*>(make_output(api, context, shape));
  if (!element_count(shape)) return;
  const ParallelFor threads = session_threads(api, context);
  const Workers workers{*find_kernels(nullptr), kernel.self.threads, threads};
  if (kernel.keeps_weights) {
    std::call_once(kernel.packing, [&] { kernel.packed = op.pack(call, workers); });
    call.packed = kernel.packed.data();
  }
  op.run(call, y, workers);
}

ort::Status* compute(void* kernel, ort::KernelContext* context) {
  auto& node = *static_cast<Kernel*>(kernel);
  return guarded(node.self.api, [&] { run(node, context); });
}

ort::Status* infer_shape(const ort::CustomOp* op, ort::ShapeInferContext* context) {
  const auto& self = *static_cast<const OrtTokenOp*>(op);
  return guarded(self.api, [&] { infer_shape_like(self.api, context, self.op.shaped_like); });
}

// Says that the result may take the memory of an input that nothing else needs any more, which
// saves reading it into the caches.
template <int input>
size_t may_take(int** inputs, int** outputs) {
  *inputs = new int(input);
  *outputs = new int(0);
  return 1;
}

OrtTokenOp::OrtTokenOp(const ort::Api& table, const TokenOp& which, int session_threads)
    : ort::CustomOp{},
      api(table),
      op(which),
      threads(session_threads) {
  set_common_members(*this);
  GetName = [](const CustomOp* op) { return static_cast<const OrtTokenOp*>(op)->op.name; };
  GetExecutionProviderType = [](const CustomOp*) -> const char* { return nullptr; };
  GetInputType = [](const CustomOp*, size_t) -> int { return ort::float32; };
  GetInputTypeCount = [](const CustomOp* op) {
    return static_cast<const OrtTokenOp*>(op)->op.input_count;
  };
  GetInputCharacteristic = [](const CustomOp*, size_t) -> int { return ort::required; };
  GetOutputType = [](const CustomOp*, size_t) -> int { return ort::float32; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  if (op.shaped_like >= 0) InferOutputShapeFn = infer_shape;
  if (op.in_place) {
    constexpr decltype(GetMayInplace) by_input[] = {may_take<0>, may_take<1>, may_take<2>,
                                                    may_take<3>, may_take<4>, may_take<5>};
    GetMayInplace = by_input[op.shaped_like];
    ReleaseMayInplace = [](int* inputs, int* outputs) {
      delete inputs;
      delete outputs;
    };
  }
}

}  // namespace

Ops ort_token_ops(const ort::Api& api, int threads) {
  Ops ops;
  for (const TokenOp* op : token_ops()) {
    ops.push_back(std::make_shared<OrtTokenOp>(api, *op, threads));
  }
  return ops;
}

}  // namespace sgmf::onnxruntime
