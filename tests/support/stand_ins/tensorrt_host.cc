// Stands in for TensorRT around a library of plugins: calls it as an engine
// would, and offers those calls as C functions. Shapes with -1 are ones that a
// profile leaves open.
#include <NvInfer.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

#define HOST_API extern "C" __attribute__((visibility("default")))

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

namespace {

using namespace nvinfer1;

struct HostTensor {
  int32_t type;
  int32_t format;
  int32_t rank;
  int64_t dims[Dims::MAX_DIMS];
  int64_t least[Dims::MAX_DIMS];
  int64_t most[Dims::MAX_DIMS];
  void* data;
};

struct Log : ILogger, ILoggerFinder {
  void log(Severity, const char* line) noexcept override { text = line; }
  ILogger* findLogger() override { return this; }
  std::string text;
};
Log the_log;

struct Extent : apiv::VDimensionExpr {
  explicit Extent(int64_t value) : value(value) {}
  bool isConstant() const noexcept override { return value >= 0; }
  int64_t getConstantValue() const noexcept override { return value; }
  bool isSizeTensor() const noexcept override { return false; }
  int64_t value;
};

struct Expression : IDimensionExpr {
  explicit Expression(int64_t value) : extent(value) { mImpl = &extent; }
  Extent extent;
};

struct NoBuilder : IExprBuilder {};

IPluginCreatorV3One& creator() {
  setLoggerFinder(&the_log);
  int32_t count = 0;
  return static_cast<IPluginCreatorV3One&>(*getCreators(count)[0]);
}

template <typename T>
T& capability(void* plugin, PluginCapabilityType type) {
  return static_cast<T&>(*static_cast<IPluginV3*>(plugin)->getCapabilityInterface(type));
}
IPluginV3OneCore& core(void* plugin) {
  return capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
}
IPluginV3OneBuild& build(void* plugin) {
  return capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
IPluginV3OneRuntime& runtime(void* plugin) {
  return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

Dims to_dims(const HostTensor& tensor, const int64_t* extents) {
  Dims dims{};
  dims.nbDims = tensor.rank;
  for (int32_t i = 0; i < tensor.rank; ++i) dims.d[i] = extents[i];
  return dims;
}

PluginTensorDesc describe(const HostTensor& tensor) {
  PluginTensorDesc desc{};
  desc.dims = to_dims(tensor, tensor.dims);
  desc.type = static_cast<DataType>(tensor.type);
  desc.format = static_cast<TensorFormat>(tensor.format);
  return desc;
}

std::vector<DynamicPluginTensorDesc> describe_open(const HostTensor* tensors, int32_t count) {
  std::vector<DynamicPluginTensorDesc> all(count);
  for (int32_t i = 0; i < count; ++i) {
    all[i].desc = describe(tensors[i]);
    all[i].min = to_dims(tensors[i], tensors[i].least);
    all[i].max = to_dims(tensors[i], tensors[i].most);
  }
  return all;
}

std::vector<PluginTensorDesc> describe_fixed(const HostTensor* tensors, int32_t count) {
  std::vector<PluginTensorDesc> all(count);
  for (int32_t i = 0; i < count; ++i) all[i] = describe(tensors[i]);
  return all;
}

const char* keep(std::string text) {
  static std::string kept;
  kept = std::move(text);
  return kept.c_str();
}

}  // namespace

HOST_API const char* host_log() { return keep(std::exchange(the_log.text, "")); }

HOST_API const char* host_creator() {
  std::string text = std::string(creator().getPluginName()) + " " + creator().getPluginVersion() +
                     " " + creator().getPluginNamespace();
  const PluginFieldCollection& fields = *creator().getFieldNames();
  for (int32_t i = 0; i < fields.nbFields; ++i) text += std::string(" ") + fields.fields[i].name;
  return keep(text);
}

HOST_API void* host_create(const char* const* names, const void* values, const int32_t* types,
                           int32_t count) {
  std::vector<PluginField> fields;
  for (int32_t i = 0; i < count; ++i) {
    fields.emplace_back(names[i], static_cast<const char*>(values) + 8 * i,
                        static_cast<PluginFieldType>(types[i]), 1);
  }
  const PluginFieldCollection collection{count, fields.data()};
  return creator().createPlugin("node", &collection, TensorRTPhase::kBUILD);
}

// What an engine does with a plugin: its fields are stored, and make a new one
// when it is loaded.
HOST_API void* host_restore(void* plugin) {
  return creator().createPlugin("node", runtime(plugin).getFieldsToSerialize(),
                                TensorRTPhase::kRUNTIME);
}
HOST_API void* host_clone(void* plugin) { return static_cast<IPluginV3*>(plugin)->clone(); }
HOST_API void* host_attach(void* plugin) { return runtime(plugin).attachToContext(nullptr); }
HOST_API void host_delete(void* plugin) { delete static_cast<IPluginV3*>(plugin); }

HOST_API const char* host_name(void* plugin) {
  return keep(std::string(core(plugin).getPluginName()) + " " + core(plugin).getPluginVersion() +
              " " + core(plugin).getPluginNamespace());
}

HOST_API const char* host_fields(void* plugin) {
  std::string text;
  const PluginFieldCollection& fields = *runtime(plugin).getFieldsToSerialize();
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    const PluginField& field = fields.fields[i];
    if (field.type != PluginFieldType::kINT32 || field.length != 1) return "not one int32";
    text += std::string(i ? " " : "") + field.name + "=" +
            std::to_string(*static_cast<const int32_t*>(field.data));
  }
  return keep(text);
}

HOST_API int32_t host_output_type(void* plugin, const HostTensor* in, int32_t count) {
  std::vector<DataType> types;
  for (int32_t i = 0; i < count; ++i) types.push_back(static_cast<DataType>(in[i].type));
  DataType out{};
  const int32_t error = build(plugin).getOutputDataTypes(&out, 1, types.data(), count);
  return error ? error : static_cast<int32_t>(out);
}

// 0 where y has the very extents of u.
HOST_API int32_t host_output_shape(void* plugin, const HostTensor* in, int32_t count) {
  std::deque<Expression> extents;
  std::vector<DimsExprs> shapes(count);
  for (int32_t i = 0; i < count; ++i) {
    shapes[i].nbDims = in[i].rank;
    for (int32_t k = 0; k < in[i].rank; ++k) {
      shapes[i].d[k] = &extents.emplace_back(in[i].dims[k]);
    }
  }
  DimsExprs y{};
  NoBuilder builder;
  if (const int32_t error =
          build(plugin).getOutputShapes(shapes.data(), count, nullptr, 0, &y, 1, builder)) {
    return error;
  }
  bool same = y.nbDims == shapes[0].nbDims;
  for (int32_t k = 0; same && k < y.nbDims; ++k) same = y.d[k] == shapes[0].d[k];
  return same ? 0 : 1;
}

HOST_API int32_t host_supports(void* plugin, int32_t position, const HostTensor* in_out,
                               int32_t in_count) {
  const auto all = describe_open(in_out, in_count + 1);
  return build(plugin).supportsFormatCombination(position, all.data(), in_count, 1);
}

HOST_API int32_t host_configure(void* plugin, const HostTensor* in_out, int32_t in_count) {
  const auto all = describe_open(in_out, in_count + 1);
  return build(plugin).configurePlugin(all.data(), in_count, all.data() + in_count, 1);
}

HOST_API int64_t host_workspace(void* plugin, const HostTensor* in_out, int32_t in_count) {
  const auto all = describe_open(in_out, in_count + 1);
  return build(plugin).getWorkspaceSize(all.data(), in_count, all.data() + in_count, 1);
}

HOST_API int32_t host_run(void* plugin, const HostTensor* in_out, int32_t in_count,
                          void* workspace) {
  const auto all = describe_fixed(in_out, in_count + 1);
  std::vector<const void*> data;
  for (int32_t i = 0; i < in_count; ++i) data.push_back(in_out[i].data);
  void* y = in_out[in_count].data;
  const PluginTensorDesc* out = all.data() + in_count;
  if (const int32_t error = runtime(plugin).onShapeChange(all.data(), in_count, out, 1)) {
    return error;
  }
  return runtime(plugin).enqueue(all.data(), out, data.data(), &y, workspace, nullptr);
}
