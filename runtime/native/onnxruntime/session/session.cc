#include "onnxruntime/session/session.h"

#include <utility>
#include <vector>

#include "onnxruntime/ops/cpu_ops.h"
#include "onnxruntime/session/coarse_model.h"
#include "pipeline/error.h"
#include "pipeline/geometry/box.h"

namespace sgmf::onnxruntime {
namespace {

// ONNX Runtime's statuses as errors of the pipeline.
template <typename F>
auto translated(const ort::Api& api, const std::string& what, F&& body) {
  try {
    return body();
  } catch (const StatusError& error) {
    const std::string message = what + ": " + api.message(error.status);
    api.release_status(error.status);
    throw Error(ErrorCode::backend, message);
  }
}

std::string text(const std::vector<int64_t>& shape) {
  std::string joined;
  for (const int64_t extent : shape)
    joined += (joined.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + joined + ")";
}

}  // namespace

template <typename T, typename Create>
Session::Held<T> Session::hold(Create&& create) const {
  T* object = nullptr;
  require(create(&object));
  return Held<T>(object, Release{api_});
}

Session::Session(const Library& library, const std::string& model, const Interface& interface,
                 int threads)
    : api_(library.api()),
      interface_(interface),
      ops_(translated(api_, "ONNX Runtime does not take the ops",
                      [&] { return OpDomain(api_, cpu_ops(library.base(), api_, threads)); })),
      environment_(nullptr, Release{api_}),
      session_(nullptr, Release{api_}),
      memory_(nullptr, Release{api_}) {
  translated(api_, "ONNX Runtime cannot open the network", [&] {
    environment_ = hold<ort::Env>(
        [&](ort::Env** out) { return api_.create_env(ort::log_fatal, "sgmf", out); });
    // The program around this library may have loaded ONNX Runtime before.
    if (library.keeps_quiet()) require(api_.disable_telemetry(environment_.get()));
    memory_ = hold<ort::MemoryInfo>(
        [&](ort::MemoryInfo** out) { return api_.create_cpu_memory_info(out); });
    if (const auto coarse = without_last_upsampling(model)) {
      session_ = open(coarse->model, threads);
      scales_ = coarse->scales;
    } else {
      session_ = open(model, threads);
    }
    input_ = check_interface("takes", true, interface.inputs);
    output_ = check_interface("gives", false, interface.outputs);
  });
}

Session::Held<ort::Session> Session::open(const std::string& model, int threads) const {
  const auto options = hold<ort::SessionOptions>(
      [&](ort::SessionOptions** out) { return api_.create_options(out); });
  require(api_.set_threads(options.get(), threads));
  // Threads that wait long by spinning take processors from the others, and from the blending.
  require(api_.add_config(options.get(), "session.intra_op.spin_duration_us", "50"));
  require(api_.add_config(options.get(), "session.force_spinning_stop", "1"));
  // Without VNNI, ONNX Runtime's int8 products saturate unless it is told to be exact.
  require(api_.add_config(options.get(), "session.x64quantprecision", "1"));
  // Tiles have one shape: planning memory by pattern only holds a second arena of that size.
  require(api_.disable_mem_pattern(options.get()));
  require(api_.set_log_level(options.get(), ort::log_fatal));  // errors come back as statuses
  ops_.add_to(options.get());
  return hold<ort::Session>([&](ort::Session** out) {
    return api_.create_session(environment_.get(), model.data(), model.size(), options.get(), out);
  });
}

std::string Session::check_interface(const char* what, bool input, int64_t channels) const {
  const auto& tile = interface_.tile;
  const std::vector<int64_t> expected = {channels, tile[0], tile[1], tile[2]};
  size_t count = 0;
  require(api_.count(input ? ort::SessionGetInputCount : ort::SessionGetOutputCount, session_.get(),
                     &count));
  if (count != 1) {
    throw Error(ErrorCode::backend, std::string("the network ") + what + " " +
                                        std::to_string(count) + " tensors; expected one");
  }
  const auto type = hold<ort::TypeInfo>([&](ort::TypeInfo** out) {
    return api_.type_info(input ? ort::SessionGetInputTypeInfo : ort::SessionGetOutputTypeInfo,
                          session_.get(), 0, out);
  });
  const ort::ShapeInfo* info = nullptr;
  require(api_.tensor_info(type.get(), &info));
  std::vector<int64_t> shape;
  int element = 0;
  if (info) {
    size_t rank = 0;
    require(api_.rank(info, &rank));
    shape.resize(rank);
    require(api_.dimensions(info, shape.data(), rank));
    require(api_.element_type(info, &element));
    if (!shape.empty()) shape.erase(shape.begin());
    for (size_t axis = 1; !input && axis < shape.size(); ++axis) shape[axis] *= scales_[axis - 1];
  }
  if (shape != expected || element != ort::float32) {
    throw Error(ErrorCode::backend, std::string("the network ") + what + " " + text(shape) +
                                        " of element type " + std::to_string(element) +
                                        "; the manifest says " + text(expected) +
                                        " of float32 behind the batch. Export the package again");
  }
  return name(input);
}

std::string Session::name(bool input) const {
  ort::Allocator* allocator = nullptr;
  require(api_.default_allocator(&allocator));
  char* given = nullptr;
  require(api_.name(input ? ort::SessionGetInputName : ort::SessionGetOutputName, session_.get(), 0,
                    allocator, &given));
  const std::string copy = given;
  require(api_.free(allocator, given));
  return copy;
}

Triple Session::logits_shape(const Triple& tile) const {
  return {tile[0] / scales_[0], tile[1] / scales_[1], tile[2] / scales_[2]};
}

Session::Held<ort::Value> Session::tensor(float* data, int64_t channels, const Triple& grid) const {
  const int64_t shape[] = {1, channels, grid[0], grid[1], grid[2]};
  const size_t bytes = static_cast<size_t>(channels * voxel_count(grid)) * sizeof(float);
  return hold<ort::Value>([&](ort::Value** out) {
    return api_.create_tensor(memory_.get(), data, bytes, shape, 5, ort::float32, out);
  });
}

void Session::run(const float* tiles, int64_t count, float* logits) {
  if (count != 1) throw Error(ErrorCode::backend, "ONNX Runtime was given several tiles at once");
  const char* input = input_.c_str();
  const char* output = output_.c_str();
  translated(api_, "ONNX Runtime failed on a tile", [&] {
    const auto in = tensor(const_cast<float*>(tiles), interface_.inputs, interface_.tile);
    const auto out = tensor(logits, interface_.outputs, logits_shape(interface_.tile));
    const ort::Value* given = in.get();
    ort::Value* taken = out.get();
    require(api_.run(session_.get(), &input, &given, 1, &output, 1, &taken));
  });
}

}  // namespace sgmf::onnxruntime
