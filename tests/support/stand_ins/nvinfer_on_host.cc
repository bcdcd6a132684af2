// Stands in for libnvinfer: engines are a few words of text, and run on the processor when their
// stream comes to it. Built with TensorRT's own headers, so what calls it has the names, the
// arguments and the places in the tables of functions right.
#include <NvInferRuntime.h>
#include <cuda.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <typeinfo>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace nvinfer1;

int version[4] = {NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH, NV_TENSORRT_BUILD};
std::atomic<int> live_objects{0};
void* instead_of_runtime = nullptr;  // what is returned where TensorRT does not start
bool starts = true;
bool plugins_load = true;
std::vector<std::string> loaded_plugins;
ILogger* the_log = nullptr;

void say(const std::string& text) { the_log->log(ILogger::Severity::kERROR, text.c_str()); }

// The driver that the calling program loaded.
template <typename F>
F driver_function(const char* name) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<F>(dlsym(driver, name));
}

bool device_is_current() { return driver_function<int (*)()>("count_current")() > 0; }

void called_by_mistake() {
  std::fputs("a function of TensorRT was called that has no stand-in\n", stderr);
  std::abort();
}

// The table of functions of an interface, as the Itanium C++ ABI has it: the interfaces have many
// functions and more with every version, of which a session calls a few. The others end the
// process.
template <typename Interface>
class Table {
 public:
  Table() {
    entries_[0] = nullptr;  // offset to the whole object
    entries_[1] = const_cast<std::type_info*>(&typeid(Interface));
    for (std::size_t i = 2; i < count; ++i)
      entries_[i] = reinterpret_cast<void*>(called_by_mistake);
  }
  template <typename R, typename... A>
  void set(R (Interface::*place)(A...) noexcept, R (*function)(void*, A...)) {
    entries_[2 + slot(place)] = reinterpret_cast<void*>(function);
  }
  template <typename R, typename... A>
  void set(R (Interface::*place)(A...) const noexcept, R (*function)(void*, A...)) {
    entries_[2 + slot(place)] = reinterpret_cast<void*>(function);
  }
  void* const* functions() const { return entries_ + 2; }

 private:
  template <typename Place>
  static std::size_t slot(Place place) {
    std::uintptr_t words[2];
    static_assert(sizeof place == sizeof words);
    std::memcpy(words, &place, sizeof words);
#if defined(__aarch64__)
    const std::uintptr_t offset = words[0];
#else
    const std::uintptr_t offset = words[0] - 1;
#endif
    return offset / sizeof(void*);
  }

  static constexpr std::size_t count = 160;
  void* entries_[count];
};

// What an interface's functions get as their object.
template <typename Interface, typename Content>
struct Object {
  Object(const Table<Interface>& table, Content given)
      : functions(table.functions()),
        content(std::move(given)) {}
  Interface* as_interface() { return reinterpret_cast<Interface*>(this); }

  void* const* functions;
  Content content;
};

// An engine's text: names, each followed by numbers.
struct Plan {
  explicit Plan(const std::string& text) {
    std::istringstream words(text);
    for (std::string word; words >> word;) {
      if (word == "inputs") words >> inputs;
      if (word == "outputs") words >> outputs;
      if (word == "tile") words >> tile[0] >> tile[1] >> tile[2];
      if (word == "batch") words >> batch;
      if (word == "type") words >> type;
      if (word == "tensors") words >> tensors;
      if (word == "context") words >> context;
      if (word == "accepts") words >> accepts;
      if (word == "nan") words >> nan;
      if (word == "line") {
        float slope = 0, offset = 0;
        words >> slope >> offset;
        slopes.push_back(slope);
        offsets.push_back(offset);
      }
    }
  }
  int64_t voxels() const { return tile[0] * tile[1] * tile[2]; }

  int64_t inputs = 1, outputs = 1, batch = 1;
  int64_t tile[3] = {1, 1, 1};
  int type = 0, tensors = 2;
  int context = 1, accepts = 1, nan = 0;
  std::vector<float> slopes, offsets;  // of each output over the intensities of an input
};

struct Running {
  const Plan* plan;
  int64_t count = 0;
  const float* tiles = nullptr;
  float* logits = nullptr;
};

void compute(void* data) {
  const Running& run = *static_cast<Running*>(data);
  const Plan& plan = *run.plan;
  for (int64_t n = 0; n < run.count; ++n) {
    for (int64_t k = 0; k < plan.outputs; ++k) {
      const float* tile = run.tiles + (n * plan.inputs + k % plan.inputs) * plan.voxels();
      float* logits = run.logits + (n * plan.outputs + k) * plan.voxels();
      for (int64_t i = 0; i < plan.voxels(); ++i) {
        logits[i] = tile[i] * plan.slopes[k] + plan.offsets[k];
      }
    }
  }
  if (plan.nan) run.logits[0] = std::numeric_limits<float>::quiet_NaN();
  delete &run;
}

template <typename Interface, typename Content>
Content& content(void* self) {
  return static_cast<Object<Interface, Content>*>(self)->content;
}

// Objects that the session holds and deletes, around those tables.
struct Context : IExecutionContext {
  explicit Context(const Plan& plan) : object(table(), Running{&plan}) {
    mImpl = object.as_interface();
    ++live_objects;
  }
  ~Context() override { --live_objects; }

  static Running& running(void* self) { return content<apiv::VExecutionContext, Running>(self); }

  static bool set_shape(void* self, const char* name, const Dims& dims) {
    const Plan& plan = *running(self).plan;
    running(self).count = dims.d[0];
    const bool fits = dims.nbDims == 5 && dims.d[0] >= 1 && dims.d[0] <= plan.batch &&
                      dims.d[1] == plan.inputs && std::memcmp(dims.d + 2, plan.tile, 24) == 0;
    if (!fits) say(std::string("the shape of ") + name + " is not in the profile");
    return fits;
  }
  static bool set_address(void* self, const char* name, void* address) {
    if (std::string(name) == "tiles") running(self).tiles = static_cast<const float*>(address);
    if (std::string(name) == "logits") running(self).logits = static_cast<float*>(address);
    return true;
  }
  static bool enqueue(void* self, cudaStream_t stream) {
    if (!running(self).plan->accepts || !device_is_current()) {
      say("enqueue was refused");
      return false;
    }
    using Launch = int (*)(CUstream, void (*)(void*), void*);
    const auto launch = driver_function<Launch>("cuLaunchHostFunc");
    return launch(reinterpret_cast<CUstream>(stream), compute, new Running(running(self))) == 0;
  }
  static const Table<apiv::VExecutionContext>& table() {
    static const auto table = [] {
      Table<apiv::VExecutionContext> table;
      table.set(&apiv::VExecutionContext::setInputShape, set_shape);
      table.set(&apiv::VExecutionContext::setTensorAddress, set_address);
      table.set(&apiv::VExecutionContext::enqueueV3, enqueue);
      return table;
    }();
    return table;
  }

  Object<apiv::VExecutionContext, Running> object;
};

struct Engine : ICudaEngine {
  explicit Engine(const std::string& text) : object(table(), Plan(text)) {
    mImpl = object.as_interface();
    ++live_objects;
  }
  ~Engine() override { --live_objects; }

  static Plan& plan(void* self) { return content<apiv::VCudaEngine, Plan>(self); }
  static bool is_input(const char* name) { return std::string(name) == "tiles"; }

  static int32_t count_tensors(void* self) { return plan(self).tensors; }
  static const char* tensor_name(void*, int32_t index) {
    static const char* const names[] = {"logits", "tiles", "more"};
    return names[index];
  }
  static TensorIOMode tensor_mode(void*, const char* name) {
    return is_input(name) ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
  }
  static Dims tensor_shape(void* self, const char* name) {
    const Plan& found = plan(self);
    const int64_t channels = is_input(name) ? found.inputs : found.outputs;
    return Dims{5, {-1, channels, found.tile[0], found.tile[1], found.tile[2]}};
  }
  static DataType tensor_type(void* self, const char*) {
    return static_cast<DataType>(plan(self).type);
  }
  static Dims profile_shape(void* self, const char* name, int32_t, OptProfileSelector which) {
    Dims dims = tensor_shape(self, name);
    dims.d[0] = which == OptProfileSelector::kMIN ? 1 : plan(self).batch;
    return dims;
  }
  static IExecutionContext* create_context(void* self, ExecutionContextAllocationStrategy) {
    if (plan(self).context) return new Context(plan(self));
    say("no memory for activations\n");
    return nullptr;
  }
  static const Table<apiv::VCudaEngine>& table() {
    static const auto table = [] {
      using V = apiv::VCudaEngine;
      Table<V> table;
      table.set(&V::getNbIOTensors, count_tensors);
      table.set(&V::getIOTensorName, tensor_name);
      table.set(&V::getTensorIOMode, tensor_mode);
      table.set(&V::getTensorShape, tensor_shape);
      table.set(&V::getTensorDataType, tensor_type);
      table.set(&V::getProfileShape, profile_shape);
      using Create = IExecutionContext* (V::*)(ExecutionContextAllocationStrategy) noexcept;
      table.set(static_cast<Create>(&V::createExecutionContext), create_context);
      return table;
    }();
    return table;
  }

  Object<apiv::VCudaEngine, Plan> object;
};

struct Runtime : IRuntime {
  Runtime() : object(table(), 0) {
    mImpl = object.as_interface();
    ++live_objects;
  }
  ~Runtime() override { --live_objects; }

  static ICudaEngine* open(void*, const void* bytes, std::size_t size) {
    const std::string text(static_cast<const char*>(bytes), size);
    if (text.rfind("engine ", 0) == 0 && device_is_current()) return new Engine(text);
    say("magicTag does not match");
    say("the second of four");
    say("the third");
    say("one too many");
    return nullptr;
  }
  static const Table<apiv::VRuntime>& table() {
    static const auto table = [] {
      Table<apiv::VRuntime> table;
      using Open = ICudaEngine* (apiv::VRuntime::*)(const void*, std::size_t) noexcept;
      table.set(static_cast<Open>(&apiv::VRuntime::deserializeCudaEngine), open);
      return table;
    }();
    return table;
  }

  Object<apiv::VRuntime, int> object;
};

void* load_plugin(void*, const char* path) {
  for (const std::string& each : loaded_plugins) {
    if (each == path) say("the plugin is there already");
  }
  if (plugins_load) loaded_plugins.emplace_back(path);
  if (!plugins_load) say("undefined symbol: cudaOfAnotherAge");
  return plugins_load ? &loaded_plugins : nullptr;
}

IPluginCreatorInterface* find_creator(void*, const char*, const char*, const char*) {
  return nullptr;
}

}  // namespace

EXPORT void set_version(int major, int minor, int patch, int build) {
  const int given[] = {major, minor, patch, build};
  std::memcpy(version, given, sizeof version);
}
EXPORT void forget_log() { the_log = nullptr; }
EXPORT void set_starts(int given, intptr_t otherwise) {
  starts = given;
  instead_of_runtime = reinterpret_cast<void*>(otherwise);
}
EXPORT void set_plugins_load(int given) { plugins_load = given; }
EXPORT int count_objects() { return live_objects; }
EXPORT int count_plugins() { return static_cast<int>(loaded_plugins.size()); }

EXPORT int32_t getInferLibMajorVersion() noexcept { return version[0]; }
EXPORT int32_t getInferLibMinorVersion() noexcept { return version[1]; }
EXPORT int32_t getInferLibPatchVersion() noexcept { return version[2]; }
EXPORT int32_t getInferLibBuildVersion() noexcept { return version[3]; }

EXPORT void* createInferRuntime_INTERNAL(void* log, int32_t) noexcept {
  // As TensorRT, which keeps the first.
  if (!the_log) the_log = static_cast<ILogger*>(log);
  if (starts) return static_cast<IRuntime*>(new Runtime);
  say("CUDA initialization failure with error: 35");
  return instead_of_runtime;
}

EXPORT IPluginRegistry* getPluginRegistry() noexcept {
  static const auto table = [] {
    using R = IPluginRegistry;
    Table<R> table;
    table.set(&R::loadLibrary, load_plugin);
    table.set(&R::getCreator, find_creator);
    return table;
  }();
  static Object<IPluginRegistry, int> registry(table, 0);
  return registry.as_interface();
}
