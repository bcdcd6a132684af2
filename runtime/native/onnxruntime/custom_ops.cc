// The op library that ONNX Runtime loads: domain `segmaformer`, op `SelectiveScan` on the CPU.
#include <array>
#include <memory>
#include <new>

#include "abi.h"
#include "selective_scan.h"

namespace {

enum Input : size_t { U, DELTA, A, B, C, D, Z, DELTA_BIAS, input_count };

constexpr bool is_vector_of_channels(size_t i) { return i == D || i == DELTA_BIAS; }
constexpr bool is_float32(size_t i) { return i == A || is_vector_of_channels(i); }

struct Tensor {
  const void* data = nullptr;
  int type = ort::undefined;
  size_t rank = 0;
  std::array<int64_t, 3> shape{};
};

struct Kernel {
  ort::Api api;
  bool delta_softplus;
  bool reverse;
};

// Owns a status that came from ONNX Runtime; converts to true where the call failed.
class Failure {
 public:
  Failure(const ort::Api& api, ort::Status* status) : api_(api), status_(status) {}
  ~Failure() { if (status_) api_.release_status(status_); }
  Failure(const Failure&) = delete;
  Failure& operator=(const Failure&) = delete;
  explicit operator bool() const { return status_ != nullptr; }

 private:
  const ort::Api& api_;
  ort::Status* status_;
};

int64_t attribute(const ort::Api& api, const ort::KernelInfo* info, const char* name) {
  int64_t value = 0;
  Failure missing(api, api.int_attribute(info, name, &value));
  return missing ? 0 : value;
}

ort::Status* create(const ort::CustomOp*, const void* const* table, const ort::KernelInfo* info, void** out) {
  const ort::Api api(table);
  *out = new (std::nothrow)
      Kernel{api, attribute(api, info, "delta_softplus") != 0, attribute(api, info, "reverse") != 0};
  return *out ? nullptr : api.create_status(ort::fail, "SelectiveScan: out of memory");
}

ort::Status* read_input(const ort::Api& api, const ort::KernelContext* context, size_t index, Tensor* out) {
  const ort::Value* value = nullptr;
  if (ort::Status* status = api.input(context, index, &value)) return status;
  if (!value) return nullptr;
  ort::ShapeInfo* info = nullptr;
  if (ort::Status* status = api.shape_info(value, &info)) return status;
  ort::Status* status = api.rank(info, &out->rank);
  if (!status) status = api.element_type(info, &out->type);
  if (!status && out->rank <= out->shape.size()) status = api.dimensions(info, out->shape.data(), out->rank);
  api.release_shape_info(info);
  if (status) return status;
  void* data = nullptr;
  status = api.tensor_data(const_cast<ort::Value*>(value), &data);
  out->data = data;
  return status;
}

bool has_shape(const Tensor& tensor, size_t rank, std::array<int64_t, 3> shape) {
  return tensor.rank == rank && tensor.shape == shape;
}

// nullptr, or what is wrong with the inputs. An absent optional input has rank 0.
const char* check_inputs(const std::array<Tensor, input_count>& in) {
  const auto [batch, length, channels] = in[U].shape;
  const int64_t states = in[A].shape[1];
  for (size_t i = 0; i < input_count; ++i) {
    if (!in[i].rank) continue;
    if (in[i].type != (is_float32(i) ? static_cast<int>(ort::float32) : in[U].type)) {
      return "SelectiveScan: u, delta, B, C and z share one type; A, D and delta_bias are float32";
    }
  }
  const bool shapes_agree = has_shape(in[U], 3, in[U].shape) && has_shape(in[DELTA], 3, in[U].shape) &&
                            has_shape(in[A], 2, {channels, states, 0}) &&
                            has_shape(in[B], 3, {batch, length, states}) &&
                            has_shape(in[C], 3, {batch, length, states}) &&
                            (!in[D].rank || has_shape(in[D], 1, {channels, 0, 0})) &&
                            (!in[Z].rank || has_shape(in[Z], 3, in[U].shape)) &&
                            (!in[DELTA_BIAS].rank || has_shape(in[DELTA_BIAS], 1, {channels, 0, 0}));
  if (shapes_agree) return nullptr;
  return "SelectiveScan: expected u, delta, z (B, L, D), A (D, N), B, C (B, L, N), D, delta_bias (D)";
}

int element_type(int type) {
  switch (type) {
    case ort::float32: return SGMF_FLOAT32;
    case ort::float16: return SGMF_FLOAT16;
    case ort::bfloat16: return SGMF_BFLOAT16;
    default: return -1;
  }
}

sgmf::ParallelFor session_threads(const ort::Api& api, const ort::KernelContext* context) {
  return [&api, context](size_t tasks, const std::function<void(size_t)>& task) {
    const auto call = [](void* data, size_t i) {
      (*static_cast<const std::function<void(size_t)>*>(data))(i);
    };
    Failure failed(api, api.parallel_for(context, call, tasks, 0, const_cast<std::function<void(size_t)>*>(&task)));
    if (failed) for (size_t i = 0; i < tasks; ++i) task(i);
  };
}

ort::Status* compute(void* kernel, ort::KernelContext* context) {
  const auto& self = *static_cast<const Kernel*>(kernel);
  const ort::Api& api = self.api;
  std::array<Tensor, input_count> in{};
  size_t given = 0;
  if (ort::Status* status = api.input_count(context, &given)) return status;
  for (size_t i = 0; i < given && i < input_count; ++i) {
    if (ort::Status* status = read_input(api, context, i, &in[i])) return status;
  }
  if (const char* error = check_inputs(in)) return api.create_status(ort::invalid_argument, error);
  ort::Value* output = nullptr;
  if (ort::Status* status = api.output(context, 0, in[U].shape.data(), 3, &output)) return status;
  void* y = nullptr;
  if (ort::Status* status = api.tensor_data(output, &y)) return status;

  sgmf_selective_scan_args args{};
  args.element_type = element_type(in[U].type);
  args.delta_softplus = self.delta_softplus;
  args.reverse = self.reverse;
  args.batch = in[U].shape[0];
  args.length = in[U].shape[1];
  args.channels = in[U].shape[2];
  args.states = in[A].shape[1];
  args.u = in[U].data;
  args.delta = in[DELTA].data;
  args.A = static_cast<const float*>(in[A].data);
  args.B = in[B].data;
  args.C = in[C].data;
  args.D = static_cast<const float*>(in[D].data);
  args.z = in[Z].data;
  args.delta_bias = static_cast<const float*>(in[DELTA_BIAS].data);
  args.y = y;
  const char* error = sgmf::check(args);
  if (!error) {
    try {
      error = sgmf::selective_scan(args, sgmf::available_threads(), session_threads(api, context), nullptr);
    } catch (...) {
      error = "SelectiveScan: out of memory";
    }
  }
  return error ? api.create_status(ort::invalid_argument, error) : nullptr;
}

ort::CustomOp selective_scan_op() {
  using ort::CustomOp;
  CustomOp op{};
  op.version = ort::api_version;
  op.get_name = [](const CustomOp*) { return "SelectiveScan"; };
  op.get_provider = [](const CustomOp*) -> const char* { return nullptr; };
  op.get_input_count = [](const CustomOp*) -> size_t { return input_count; };
  op.get_input_type = [](const CustomOp*, size_t i) -> int { return is_float32(i) ? ort::float32 : ort::undefined; };
  op.get_input_characteristic = [](const CustomOp*, size_t i) -> int { return i < D ? ort::required : ort::optional; };
  op.get_input_memory_type = [](const CustomOp*, size_t) -> int { return ort::default_memory; };
  op.get_output_count = [](const CustomOp*) -> size_t { return 1; };
  op.get_output_type = [](const CustomOp*, size_t) -> int { return ort::undefined; };
  op.get_output_characteristic = [](const CustomOp*, size_t) -> int { return ort::required; };
  op.get_variadic_input_min_arity = [](const CustomOp*) { return 1; };
  op.get_variadic_input_homogeneity = [](const CustomOp*) { return 0; };
  op.get_variadic_output_min_arity = [](const CustomOp*) { return 1; };
  op.get_variadic_output_homogeneity = [](const CustomOp*) { return 0; };
  op.create_kernel_v2 = create;
  op.compute_v2 = compute;
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.get_start_version = [](const CustomOp*) { return 1; };
  op.get_end_version = [](const CustomOp*) { return 0x7fffffff; };
  return op;
}

}  // namespace

extern "C" SGMF_API ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base) {
  static const ort::CustomOp op = selective_scan_op();
  const void* const* table = base->get_api(ort::api_version);
  if (!table) return nullptr;  // older than 1.17: the model then fails to load, naming the op
  const ort::Api api(table);
  ort::CustomOpDomain* domain = nullptr;
  if (ort::Status* status = api.create_domain("segmaformer", &domain)) return status;
  if (ort::Status* status = api.add_op(domain, &op)) return status;
  return api.add_domain(options, domain);
}
