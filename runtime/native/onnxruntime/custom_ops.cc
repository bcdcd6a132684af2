// The op library that ONNX Runtime loads: domain `segmaformer`, op `SelectiveScan` on the CPU.
//
// Every entry point that ONNX Runtime calls runs its body inside `guarded`, so that no exception
// leaves this library.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "abi.h"
#include "selective_scan.h"

namespace {

enum Input : size_t { U, DELTA, A, B, C, D, Z, DELTA_BIAS, input_count };
constexpr std::array<const char*, input_count> input_names = {"u", "delta", "A", "B",
                                                              "C", "D",     "z", "delta_bias"};

// Session configuration entry, read on registration: how many threads the session has.
// Without it the scan plans for every processor, which costs time where the session has fewer.
constexpr const char* threads_entry = "segmaformer.threads";

using Shape = std::vector<int64_t>;

struct Tensor {
  bool given = false;
  void* data = nullptr;
  Shape shape;
};
using Inputs = std::array<Tensor, input_count>;

struct Element {
  ort::ElementType onnx;
  sgmf_element_type scan;
};
constexpr std::array<Element, 3> elements = {
    {{ort::float32, SGMF_FLOAT32}, {ort::float16, SGMF_FLOAT16}, {ort::bfloat16, SGMF_BFLOAT16}}};

// What an op has to know of the sessions that use it.
struct Session {
  ort::Api api;
  bool infers_shapes;
  int threads;
};

// The op for one element type; ONNX Runtime takes the one that fits a node's inputs.
struct ScanOp : ort::CustomOp {
  ScanOp(const Session& session, Element element);
  ort::Api api;
  Element element;
  int threads;
};

struct Kernel {
  const ScanOp& op;
  bool delta_softplus;
  bool reverse;
};

// A failed status on its way back to ONNX Runtime, which takes ownership.
struct StatusError {
  ort::Status* status;
};

void require(ort::Status* status) {
  if (status) throw StatusError{status};
}

template <typename F>
ort::Status* guarded(const ort::Api& api, F&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const StatusError& error) {
    return error.status;
  } catch (const std::invalid_argument& error) {
    return api.create_status(ort::invalid_argument, error.what());
  } catch (const std::exception& error) {
    return api.create_status(ort::fail, error.what());
  }
}

std::string to_string(const Shape& shape) {
  std::string text;
  for (int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + text + ")";
}

Shape read_shape(const ort::Api& api, const ort::ShapeInfo* info) {
  size_t rank = 0;
  require(api.rank(info, &rank));
  Shape shape(rank);
  require(api.dimensions(info, shape.data(), rank));
  return shape;
}

Tensor read_input(const ort::Api& api, const ort::KernelContext* context, size_t index) {
  const ort::Value* value = nullptr;
  require(api.input(context, index, &value));
  if (!value) return {};
  ort::ShapeInfo* info = nullptr;
  require(api.shape_info(value, &info));
  const auto release = [&api](ort::ShapeInfo* p) { api.release_shape_info(p); };
  const std::unique_ptr<ort::ShapeInfo, decltype(release)> owner(info, release);
  Tensor tensor{true, nullptr, read_shape(api, info)};
  require(api.tensor_data(const_cast<ort::Value*>(value), &tensor.data));
  return tensor;
}

Inputs read_inputs(const ort::Api& api, const ort::KernelContext* context) {
  size_t given = 0;
  require(api.input_count(context, &given));
  Inputs in;
  for (size_t i = 0; i < given && i < input_count; ++i) in[i] = read_input(api, context, i);
  return in;
}

void check_shapes(const Inputs& in) {
  if (in[U].shape.size() != 3 || in[A].shape.size() != 2) {
    throw std::invalid_argument("SelectiveScan: expected u (B, L, D) and A (D, N); found " +
                                to_string(in[U].shape) + " and " + to_string(in[A].shape));
  }
  const Shape& sequence = in[U].shape;
  const Shape projection = {sequence[0], sequence[1], in[A].shape[1]};
  const Shape decay = {sequence[2], in[A].shape[1]};
  const Shape vector = {sequence[2]};
  const std::array<const Shape*, input_count> expected = {
      &sequence, &sequence, &decay, &projection, &projection, &vector, &sequence, &vector};
  for (size_t i = 0; i < input_count; ++i) {
    if (!in[i].given || in[i].shape == *expected[i]) continue;
    throw std::invalid_argument(std::string("SelectiveScan: ") + input_names[i] + " has shape " +
                                to_string(in[i].shape) + "; u and A ask for " +
                                to_string(*expected[i]));
  }
}

sgmf::ParallelFor session_threads(const ort::Api& api, const ort::KernelContext* context) {
  return [&api, context](size_t tasks, const std::function<void(size_t)>& task) {
    const auto call = [](void* data, size_t i) {
      (*static_cast<const std::function<void(size_t)>*>(data))(i);
    };
    require(
        api.parallel_for(context, call, tasks, 0, const_cast<std::function<void(size_t)>*>(&task)));
  };
}

void run(const Kernel& kernel, ort::KernelContext* context) {
  const ort::Api& api = kernel.op.api;
  const Inputs in = read_inputs(api, context);
  check_shapes(in);
  const Shape& shape = in[U].shape;
  ort::Value* output = nullptr;
  require(api.output(context, 0, shape.data(), shape.size(), &output));

  sgmf_selective_scan_args args{};
  args.element_type = kernel.op.element.scan;
  args.delta_softplus = kernel.delta_softplus;
  args.reverse = kernel.reverse;
  args.batch = shape[0];
  args.length = shape[1];
  args.channels = shape[2];
  args.states = in[A].shape[1];
  args.u = in[U].data;
  args.delta = in[DELTA].data;
  args.A = static_cast<const float*>(in[A].data);
  args.B = in[B].data;
  args.C = in[C].data;
  args.D = static_cast<const float*>(in[D].data);
  args.z = in[Z].data;
  args.delta_bias = static_cast<const float*>(in[DELTA_BIAS].data);
  require(api.tensor_data(output, &args.y));

  const char* error = sgmf::check(args);
  if (!error) {
    const int threads = sgmf::useful_threads(args, kernel.op.threads);
    error = sgmf::selective_scan(args, threads, session_threads(api, context), nullptr);
  }
  if (error) throw std::invalid_argument(std::string("SelectiveScan: ") + error);
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
    require(api.input_type_shape(context, U, &info));
    const Shape shape = read_shape(api, info);
    std::vector<const char*> names(shape.size());
    require(api.symbolic_dimensions(info, names.data(), names.size()));
    bool known = shape.size() == 3;
    for (size_t i = 0; i < shape.size(); ++i) known = known && (shape[i] >= 0 || *names[i]);
    if (known) require(api.set_output_type_shape(context, 0, info));
  });
}

int input_type(const ort::CustomOp* op, size_t i) {
  const bool is_parameter = i == A || i == D || i == DELTA_BIAS;
  return is_parameter ? ort::float32 : static_cast<const ScanOp*>(op)->element.onnx;
}

ScanOp::ScanOp(const Session& session, Element type)
    : ort::CustomOp{},
      api(session.api),
      element(type),
      threads(session.threads) {
  version = ort::api_version;
  GetName = [](const CustomOp*) { return "SelectiveScan"; };
  GetExecutionProviderType = [](const CustomOp*) -> const char* { return nullptr; };
  GetInputType = input_type;
  GetInputTypeCount = [](const CustomOp*) -> size_t { return input_count; };
  GetInputCharacteristic = [](const CustomOp*, size_t i) -> int {
    return i < D ? ort::required : ort::optional;
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
  if (session.infers_shapes) InferOutputShapeFn = infer_shape;
  GetStartVersion = [](const CustomOp*) { return 1; };
  GetEndVersion = [](const CustomOp*) { return 0x7fffffff; };
}

// Up to version 1.23 shape inference reads through a null pointer where a node leaves out an
// optional input.
bool infers_shapes(const char* version) {
  int major = 0;
  int minor = 0;
  std::sscanf(version, "%d.%d", &major, &minor);
  return major > 1 || minor >= 24;
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

// The ops for one kind of session, in their domain.
struct Domain {
  explicit Domain(const Session& session) {
    require(session.api.create_domain("segmaformer", &domain));
    for (const Element& element : elements) {
      ops.push_back(std::make_unique<ScanOp>(session, element));
      require(session.api.add_op(domain, ops.back().get()));
    }
  }
  ort::CustomOpDomain* domain = nullptr;
  std::vector<std::unique_ptr<ScanOp>> ops;
};

// Domains live as long as this library: sessions only borrow them.
ort::CustomOpDomain* domain_for(const void* table, const Session& session) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, Domain> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  return domains.try_emplace({table, session.threads}, session).first->second.domain;
}

}  // namespace

extern "C" SGMF_API ort::Status* RegisterCustomOps(ort::SessionOptions* options,
                                                   const ort::ApiBase* base) {
  const void* const* table = base->GetApi(ort::api_version);
  if (!table) return nullptr;  // older than 1.17: the model then fails to load, naming the op
  const ort::Api api(table);
  return guarded(api, [&] {
    const Session session{api, infers_shapes(base->GetVersionString()),
                          planned_threads(api, options)};
    require(api.add_domain(options, domain_for(table, session)));
  });
}
