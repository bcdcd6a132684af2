#include "scan_op.h"

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "scan_inputs.h"

namespace sgmf::onnxruntime {
namespace {

using scan::Inputs;
using scan::Shape;
using scan::Tensor;

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

Shape read_shape(const ort::Api& api, const ort::ShapeInfo* info) {
  size_t rank = 0;
  require(api.rank(info, &rank));
  Shape shape(rank);
  require(api.dimensions(info, shape.data(), rank));
  return shape;
}

const ort::Value* read_value(const Call& call, size_t index) {
  const ort::Value* value = nullptr;
  require(call.api.input(call.context, index, &value));
  return value;
}

Tensor read_tensor(const ort::Api& api, const ort::Value* value) {
  if (!value) return {};
  ort::ShapeInfo* info = nullptr;
  require(api.shape_info(value, &info));
  const auto release = [&api](ort::ShapeInfo* p) { api.release_shape_info(p); };
  const std::unique_ptr<ort::ShapeInfo, decltype(release)> owner(info, release);
  void* data = nullptr;
  require(api.tensor_data(const_cast<ort::Value*>(value), &data));
  return {true, data, read_shape(api, info)};
}

Inputs read_inputs(const Call& call) {
  size_t given = 0;
  require(call.api.input_count(call.context, &given));
  Inputs in;
  for (size_t i = 0; i < given && i < in.size(); ++i) {
    in[i] = read_tensor(call.api, read_value(call, i));
  }
  return in;
}

void run(const Kernel& kernel, ort::KernelContext* context) {
  Call call{kernel.op.api, context, nullptr};
  call.u = read_value(call, scan::U);
  const Inputs in = read_inputs(call);
  scan::check_shapes(in);
  const Shape& shape = in[scan::U].shape;
  ort::Value* output = nullptr;
  require(call.api.output(context, 0, shape.data(), shape.size(), &output));
  void* y = nullptr;
  require(call.api.tensor_data(output, &y));
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

// y has the shape of u. A partly unknown shape is left alone: ONNX Runtime would take a dimension
// without value and name for one of extent -1.
ort::Status* infer_shape(const ort::CustomOp* op, ort::ShapeInferContext* context) {
  const ort::Api& api = static_cast<const ScanOp*>(op)->api;
  return guarded(api, [&] {
    ort::ShapeInfo* info = nullptr;  // belongs to the context
    require(api.input_type_shape(context, scan::U, &info));
    const Shape shape = read_shape(api, info);
    std::vector<const char*> names(shape.size());
    require(api.symbolic_dimensions(info, names.data(), names.size()));
    bool known = shape.size() == 3;
    for (size_t i = 0; i < shape.size(); ++i) known = known && (shape[i] >= 0 || *names[i]);
    if (known) require(api.set_output_type_shape(context, 0, info));
  });
}

int input_type(const ort::CustomOp* op, size_t i) {
  return scan::is_parameter(i) ? ort::float32 : static_cast<const ScanOp*>(op)->element.onnx;
}

ScanOp::ScanOp(const ort::Api& table, bool infers_shapes, Element type, Device place)
    : ort::CustomOp{},
      api(table),
      element(type),
      device(std::move(place)) {
  version = ort::custom_op_version;
  GetName = [](const CustomOp*) { return "SelectiveScan"; };
  GetExecutionProviderType = [](const CustomOp* op) {
    return static_cast<const ScanOp*>(op)->device.provider;
  };
  GetInputType = input_type;
  GetInputTypeCount = [](const CustomOp*) -> size_t { return scan::input_count; };
  GetInputCharacteristic = [](const CustomOp*, size_t i) -> int {
    return i < scan::D ? ort::required : ort::optional;
  };
  GetInputMemoryType = [](const CustomOp*, size_t) -> int { return ort::default_memory; };
  GetOutputType = [](const CustomOp* op, size_t) -> int {
    return static_cast<const ScanOp*>(op)->element.onnx;
  };
  GetOutputTypeCount = [](const CustomOp*) -> size_t { return 1; };
  GetOutputCharacteristic = [](const CustomOp*, size_t) -> int { return ort::required; };
  GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const CustomOp*) { return 1; };
  GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const CustomOp*) { return 0; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  if (infers_shapes) InferOutputShapeFn = infer_shape;
  GetStartVersion = [](const CustomOp*) { return 1; };
  GetEndVersion = [](const CustomOp*) { return 0x7fffffff; };
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
