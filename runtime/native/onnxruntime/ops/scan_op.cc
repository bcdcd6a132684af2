#include "onnxruntime/ops/scan_op.h"

#include <array>
#include <cstdio>
#include <string>
#include <utility>

#include "kernels/scan/scan_inputs.h"
#include "onnxruntime/ops/op_support.h"

namespace sgmf::onnxruntime {
namespace {

using scan::Inputs;

struct Element {
  ort::ElementType onnx;
  sgmf_element_type scan;
};
constexpr std::array<Element, 3> elements = {
    {{ort::float32, SGMF_FLOAT32}, {ort::float16, SGMF_FLOAT16}, {ort::bfloat16, SGMF_BFLOAT16}}};

// The op for one element type; ONNX Runtime takes the one that fits a node's inputs.
struct ScanOp : ort::CustomOp {
  ScanOp(const ort::Api& api, bool infers_shapes, Element element, Device device);
  ort::Api api;
  Element element;
  Device device;
};

struct Kernel {
  const ScanOp& op;
  bool delta_softplus;
  bool reverse;
};

Inputs read_inputs(const Call& call) {
  size_t given = 0;
  require(call.api.input_count(call.context, &given));
  Inputs in;
  for (size_t i = 0; i < given && i < in.size(); ++i) {
    in[i] = read_tensor(call.api, read_value(call.api, call.context, i));
  }
  return in;
}

void run(const Kernel& kernel, ort::KernelContext* context) {
  Call call{kernel.op.api, context, nullptr};
  call.u = read_value(call.api, context, scan::U);
  const Inputs in = read_inputs(call);
  scan::check_shapes(in);
  const Shape& shape = in[scan::U].shape;
  void* y = make_output(call.api, context, shape);
  const auto args =
      scan::arguments(in, {kernel.op.element.scan, kernel.delta_softplus, kernel.reverse}, y);
  if (const char* error = kernel.op.device.scan(args, call)) {
    throw std::invalid_argument(std::string("SelectiveScan: ") + error);
  }
}

bool attribute(const ort::Api& api, const ort::KernelInfo* info, const char* name) {
  int64_t value = 0;
  ort::Status* missing = api.int_attribute(info, name, &value);
  if (missing) api.release_status(missing);
  return value != 0;
}

ort::Status* create(const ort::CustomOp* op, const void* const*, const ort::KernelInfo* info,
                    void** out) {
  const auto& self = *static_cast<const ScanOp*>(op);
  return guarded(self.api, [&] {
    *out = new Kernel{self, attribute(self.api, info, "delta_softplus"),
                      attribute(self.api, info, "reverse")};
  });
}

ort::Status* compute(void* kernel, ort::KernelContext* context) {
  const auto& self = *static_cast<const Kernel*>(kernel);
  return guarded(self.op.api, [&] { run(self, context); });
}

ort::Status* infer_shape(const ort::CustomOp* op, ort::ShapeInferContext* context) {
  const ort::Api& api = static_cast<const ScanOp*>(op)->api;
  return guarded(api, [&] { infer_shape_like(api, context, scan::U); });
}

int input_type(const ort::CustomOp* op, size_t i) {
  return scan::is_parameter(i) ? ort::float32 : static_cast<const ScanOp*>(op)->element.onnx;
}

ScanOp::ScanOp(const ort::Api& table, bool infers_shapes, Element type, Device place)
    : ort::CustomOp{},
      api(table),
      element(type),
      device(std::move(place)) {
  set_common_members(*this);
  GetName = [](const CustomOp*) { return "SelectiveScan"; };
  GetExecutionProviderType = [](const CustomOp* op) {
    return static_cast<const ScanOp*>(op)->device.provider;
  };
  GetInputType = input_type;
  GetInputTypeCount = [](const CustomOp*) -> size_t { return scan::input_count; };
  GetInputCharacteristic = [](const CustomOp*, size_t i) -> int {
    return i < scan::D ? ort::required : ort::optional;
  };
  GetOutputType = [](const CustomOp* op, size_t) -> int {
    return static_cast<const ScanOp*>(op)->element.onnx;
  };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  if (infers_shapes) InferOutputShapeFn = infer_shape;
}

// Up to version 1.23 shape inference reads through a null pointer where a node leaves out an
// optional input.
bool can_infer_shapes(const char* version) {
  int major = 0;
  int minor = 0;
  std::sscanf(version, "%d.%d", &major, &minor);
  return major > 1 || minor >= 24;
}

}  // namespace

Ops scan_ops(const ort::ApiBase& base, const ort::Api& api, const Device& device) {
  const bool infers_shapes = can_infer_shapes(base.GetVersionString());
  Ops ops;
  for (const Element& element : elements) {
    ops.push_back(std::make_shared<ScanOp>(api, infers_shapes, element, device));
  }
  return ops;
}

}  // namespace sgmf::onnxruntime
