// Common parts of the ops for ONNX Runtime: values, shapes, and most of their members.
#pragma once

#include <memory>
#include <vector>

#include "kernels/tensor.h"
#include "onnxruntime/status.h"

namespace sgmf::onnxruntime {

inline Shape read_shape(const ort::Api& api, const ort::ShapeInfo* info) {
  size_t rank = 0;
  require(api.rank(info, &rank));
  Shape shape(rank);
  require(api.dimensions(info, shape.data(), rank));
  return shape;
}

inline const ort::Value* read_value(const ort::Api& api, const ort::KernelContext* context,
                                    size_t index) {
  const ort::Value* value = nullptr;
  require(api.input(context, index, &value));
  return value;
}

inline Tensor read_tensor(const ort::Api& api, const ort::Value* value) {
  if (!value) return {};
  ort::ShapeInfo* info = nullptr;
  require(api.shape_info(value, &info));
  const auto release = [&api](ort::ShapeInfo* p) { api.release_shape_info(p); };
  const std::unique_ptr<ort::ShapeInfo, decltype(release)> owner(info, release);
  void* data = nullptr;
  require(api.tensor_data(const_cast<ort::Value*>(value), &data));
  return {true, data, read_shape(api, info)};
}

// Memory for the only output.
inline void* make_output(const ort::Api& api, ort::KernelContext* context, const Shape& shape) {
  ort::Value* output = nullptr;
  require(api.output(context, 0, shape.data(), shape.size(), &output));
  void* data = nullptr;
  require(api.tensor_data(output, &data));
  return data;
}

// Says that the output has the shape of an input. A partly unknown shape is left alone: ONNX
// Runtime would take a dimension without value and name for one of extent -1.
inline void infer_shape_like(const ort::Api& api, ort::ShapeInferContext* context, size_t input) {
  ort::ShapeInfo* info = nullptr;  // belongs to the context
  require(api.input_type_shape(context, input, &info));
  const Shape shape = read_shape(api, info);
  std::vector<const char*> names(shape.size());
  require(api.symbolic_dimensions(info, names.data(), names.size()));
  bool known = !shape.empty();
  for (size_t i = 0; i < shape.size(); ++i) known = known && (shape[i] >= 0 || *names[i]);
  if (known) require(api.set_output_type_shape(context, 0, info));
}

// Version 1, one output, and every tensor where the provider's memory is.
inline void set_common_members(ort::CustomOp& op) {
  using ort::CustomOp;
  op.version = ort::custom_op_version;
  op.GetInputMemoryType = [](const CustomOp*, size_t) -> int { return ort::default_memory; };
  op.GetOutputTypeCount = [](const CustomOp*) -> size_t { return 1; };
  op.GetOutputCharacteristic = [](const CustomOp*, size_t) -> int { return ort::required; };
  op.GetVariadicInputMinArity = op.GetVariadicOutputMinArity = [](const CustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity =
      op.GetVariadicOutputHomogeneity = [](const CustomOp*) { return 0; };
  op.GetStartVersion = [](const CustomOp*) { return 1; };
  op.GetEndVersion = [](const CustomOp*) { return 0x7fffffff; };
}

}  // namespace sgmf::onnxruntime
