#include "tensorrt/session/engine.h"

#include <new>
#include <utility>
#include <vector>

#include "pipeline/error.h"
#include "tensorrt/session/log_listener.h"

namespace sgmf::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::TensorIOMode;

constexpr int32_t first_profile = 0;

[[noreturn]] void fail(const std::string& text) { throw Error(ErrorCode::backend, text); }

using Shape = std::vector<int64_t>;

// A tensor behind its batch.
struct Tensor {
  std::string name;
  Shape shape;
  DataType type;
};

std::string text(const Shape& shape) {
  std::string joined;
  for (const int64_t extent : shape) {
    joined += (joined.empty() ? "" : ", ") + std::to_string(extent);
  }
  return "(" + joined + ")";
}

Tensor describe(const nvinfer1::ICudaEngine& engine, const char* name) {
  const Dims dims = engine.getTensorShape(name);
  Tensor tensor{name, {}, engine.getTensorDataType(name)};
  for (int32_t i = 1; i < dims.nbDims; ++i) tensor.shape.push_back(dims.d[i]);
  return tensor;
}

std::unique_ptr<nvinfer1::ICudaEngine> open(nvinfer1::IRuntime& runtime,
                                            const std::string& content) {
  const LogListener listener;
  std::unique_ptr<nvinfer1::ICudaEngine> engine(
      runtime.deserializeCudaEngine(content.data(), content.size()));
  if (!engine) fail("the engine cannot be opened: " + listener.errors() + "; build it again");
  return engine;
}

std::unique_ptr<nvinfer1::IExecutionContext> start(nvinfer1::ICudaEngine& engine,
                                                   const std::string& device) {
  const LogListener listener;
  std::unique_ptr<nvinfer1::IExecutionContext> context(engine.createExecutionContext());
  if (context) return context;
  fail("the engine cannot get its memory on " + device + ": " + listener.errors() +
       ". End other programs on the device, or build with a smaller --batch");
}

}  // namespace

Engine::Engine(const Library& library, std::shared_ptr<const cuda::Device> device,
               const std::string& content, const Interface& interface)
    : device_(std::move(device)),
      interface_(interface),
      runtime_(library.create_runtime()),
      engine_(open(*runtime_, content)),
      input_(tensor(TensorIOMode::kINPUT, "takes", interface.inputs)),
      output_(tensor(TensorIOMode::kOUTPUT, "gives", interface.outputs)),
      batch_(most_tiles()),
      context_(start(*engine_, device_->facts().name)) {}

Engine::~Engine() {
  const cuda::Current current(*device_, std::nothrow);  // what they hold there is freed there
  context_.reset();
  engine_.reset();
  runtime_.reset();
}

// Name of the only tensor of a mode, once its shape and type are what the manifest says.
std::string Engine::tensor(TensorIOMode mode, const char* what, int64_t channels) const {
  const auto& tile = interface_.tile;
  const Shape expected = {channels, tile[0], tile[1], tile[2]};
  std::vector<Tensor> found;
  for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
    const char* name = engine_->getIOTensorName(i);
    if (engine_->getTensorIOMode(name) == mode) found.push_back(describe(*engine_, name));
  }
  const bool fits =
      found.size() == 1 && found[0].shape == expected && found[0].type == DataType::kFLOAT;
  if (fits) return found[0].name;
  std::string shown;
  for (const Tensor& each : found) {
    shown += (shown.empty() ? "" : ", ") + text(each.shape) + " of type " +
             std::to_string(static_cast<int>(each.type));
  }
  fail("the engine " + std::string(what) + " " + (shown.empty() ? "nothing" : shown) +
       "; the manifest says " + text(expected) +
       " of float32, which is type 0, behind the batch. Build the engine again");
}

int64_t Engine::most_tiles() const {
  const Dims most =
      engine_->getProfileShape(input_.c_str(), first_profile, nvinfer1::OptProfileSelector::kMAX);
  if (most.nbDims >= 1 && most.d[0] >= 1) return most.d[0];
  fail("the engine says no number of tiles that it takes at once; build it again");
}

void Engine::compute(const cuda::Stream& stream, int64_t count, cuda::Address tiles,
                     cuda::Address logits) const {
  const auto& tile = interface_.tile;
  const Dims shape{5, {count, interface_.inputs, tile[0], tile[1], tile[2]}};
  const auto pointer = [](cuda::Address address) { return reinterpret_cast<void*>(address); };
  const LogListener listener;
  const bool accepted = context_->setInputShape(input_.c_str(), shape) &&
                        context_->setTensorAddress(input_.c_str(), pointer(tiles)) &&
                        context_->setTensorAddress(output_.c_str(), pointer(logits)) &&
                        context_->enqueueV3(static_cast<cudaStream_t>(stream.get()));
  if (accepted) return;
  fail(device_->facts().name + " refused a batch of " +
       text({count, interface_.inputs, tile[0], tile[1], tile[2]}) + ": " + listener.errors());
}

}  // namespace sgmf::tensorrt
