#include "tensorrt/plugin/selective_scan_plugin.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>

#include "cuda/selective_scan_cuda.h"
#include "tensorrt/session/log.h"

namespace sgmf::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr const char* name = "SelectiveScan";
constexpr const char* version = "1";
constexpr const char* name_space = "segmaformer";
constexpr int32_t failed = -1;

struct Field {
  const char* name;
  int32_t ScanFields::* member;
};
constexpr std::array<Field, 5> attributes = {{{"delta_softplus", &ScanFields::delta_softplus},
                                              {"reverse", &ScanFields::reverse},
                                              {"has_D", &ScanFields::has_D},
                                              {"has_z", &ScanFields::has_z},
                                              {"has_delta_bias", &ScanFields::has_delta_bias}}};
constexpr Field multiprocessors = {"multiprocessors", &ScanFields::multiprocessors};

// Runs a body that TensorRT called; an exception becomes a line in its log and `otherwise`.
template <typename R, typename F>
R guarded(R otherwise, F&& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    log_error(error.what());
    return otherwise;
  }
}

std::optional<sgmf_element_type> element_type(DataType type) {
  switch (type) {
    case DataType::kFLOAT: return SGMF_FLOAT32;
    case DataType::kHALF: return SGMF_FLOAT16;
    case DataType::kBF16: return SGMF_BFLOAT16;
    default: return std::nullopt;
  }
}

DataType expected_type(std::size_t input, DataType of_u) {
  return scan::is_parameter(input) ? DataType::kFLOAT : of_u;
}

Shape to_shape(const nvinfer1::Dims& dims) { return {dims.d, dims.d + dims.nbDims}; }

int32_t read_value(const PluginField& field) {
  if (field.type != PluginFieldType::kINT32 || field.length != 1 || !field.data) {
    throw std::invalid_argument(std::string("SelectiveScan: field ") + field.name +
                                " must be one int32");
  }
  int32_t value = 0;
  std::memcpy(&value, field.data, sizeof value);
  return value;
}

void read_field(const PluginField& field, ScanFields& fields) {
  if (!field.name) throw std::invalid_argument("SelectiveScan: a field without a name");
  const int32_t value = read_value(field);
  if (!std::strcmp(field.name, multiprocessors.name)) {
    if (value < 1) throw std::invalid_argument("SelectiveScan: multiprocessors must be positive");
    fields.multiprocessors = value;
    return;
  }
  for (const Field& known : attributes) {
    if (std::strcmp(field.name, known.name)) continue;
    if (value != 0 && value != 1) {
      throw std::invalid_argument(std::string("SelectiveScan: ") + field.name +
                                  " must be 0 or 1; found " + std::to_string(value));
    }
    fields.*known.member = value;
    return;
  }
  throw std::invalid_argument(std::string("SelectiveScan: unknown field ") + field.name);
}

ScanFields read_fields(const nvinfer1::PluginFieldCollection* given) {
  ScanFields fields;
  for (int32_t i = 0; given && i < given->nbFields; ++i) read_field(given->fields[i], fields);
  if (fields.multiprocessors) return fields;
  if (const char* error = sgmf_cuda_multiprocessors(&fields.multiprocessors)) {
    throw std::runtime_error(std::string("SelectiveScan: ") + error);
  }
  return fields;
}

std::vector<std::size_t> given_inputs(const ScanFields& fields) {
  std::vector<std::size_t> inputs = {scan::U, scan::DELTA, scan::A, scan::B, scan::C};
  if (fields.has_D) inputs.push_back(scan::D);
  if (fields.has_z) inputs.push_back(scan::Z);
  if (fields.has_delta_bias) inputs.push_back(scan::DELTA_BIAS);
  return inputs;
}

template <typename DimsOf>
scan::Inputs read_inputs(const std::vector<std::size_t>& order, DimsOf&& dims_of) {
  scan::Inputs in;
  for (std::size_t i = 0; i < order.size(); ++i) {
    in[order[i]] = {true, nullptr, to_shape(dims_of(i))};
  }
  return in;
}

PluginField to_field(const Field& field, const ScanFields& fields) {
  return {field.name, &(fields.*field.member), PluginFieldType::kINT32, 1};
}

}  // namespace

SelectiveScanPlugin::SelectiveScanPlugin(const ScanFields& fields)
    : fields_(fields),
      inputs_(given_inputs(fields)) {
  for (const Field& field : attributes) serialised_.push_back(to_field(field, fields_));
  serialised_.push_back(to_field(multiprocessors, fields_));
  collection_ = {static_cast<int32_t>(serialised_.size()), serialised_.data()};
}

void SelectiveScanPlugin::check_count(int32_t in_count, int32_t out_count) const {
  if (in_count == static_cast<int32_t>(inputs_.size()) && out_count == 1) return;
  throw std::invalid_argument("SelectiveScan: has_D, has_z and has_delta_bias ask for " +
                              std::to_string(inputs_.size()) + " inputs and 1 output; found " +
                              std::to_string(in_count) + " and " + std::to_string(out_count));
}

nvinfer1::IPluginCapability* SelectiveScanPlugin::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* SelectiveScanPlugin::clone() noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [&] { return new SelectiveScanPlugin(fields_); });
}

const char* SelectiveScanPlugin::getPluginName() const noexcept { return name; }
const char* SelectiveScanPlugin::getPluginVersion() const noexcept { return version; }
const char* SelectiveScanPlugin::getPluginNamespace() const noexcept { return name_space; }

// The workspace is found for every batch that a profile allows; all else must be fixed.
int32_t SelectiveScanPlugin::configurePlugin(const DynamicPluginTensorDesc* in, int32_t in_count,
                                             const DynamicPluginTensorDesc*,
                                             int32_t out_count) noexcept {
  return guarded(failed, [&] {
    check_count(in_count, out_count);
    const auto least = read_inputs(inputs_, [in](std::size_t i) { return in[i].min; });
    const auto most = read_inputs(inputs_, [in](std::size_t i) { return in[i].max; });
    scan::check_shapes(least);
    scan::check_shapes(most);
    if (least[scan::U].shape[1] != most[scan::U].shape[1] ||
        least[scan::U].shape[2] != most[scan::U].shape[2] ||
        least[scan::A].shape != most[scan::A].shape) {
      throw std::invalid_argument("SelectiveScan: only the batch may vary; a profile has u from " +
                                  to_string(least[scan::U].shape) + " to " +
                                  to_string(most[scan::U].shape));
    }
    return 0;
  });
}

int32_t SelectiveScanPlugin::getOutputDataTypes(DataType* out, int32_t out_count,
                                                const DataType* in,
                                                int32_t in_count) const noexcept {
  return guarded(failed, [&] {
    check_count(in_count, out_count);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (element_type(in[0]) && in[i] == expected_type(inputs_[i], in[0])) continue;
      throw std::invalid_argument(
          "SelectiveScan: A, D and delta_bias must be float32, all other inputs of one type "
          "among float32, float16 and bfloat16; input " +
          std::to_string(i) + " is not");
    }
    out[0] = in[0];
    return 0;
  });
}

int32_t SelectiveScanPlugin::getOutputShapes(const nvinfer1::DimsExprs* in, int32_t in_count,
                                             const nvinfer1::DimsExprs*, int32_t shape_in_count,
                                             nvinfer1::DimsExprs* out, int32_t out_count,
                                             nvinfer1::IExprBuilder&) noexcept {
  return guarded(failed, [&] {
    check_count(in_count + shape_in_count, out_count);
    scan::check_shapes(read_inputs(inputs_, [in](std::size_t i) {
      nvinfer1::Dims dims{};
      dims.nbDims = in[i].nbDims;
      for (int32_t k = 0; k < dims.nbDims; ++k) {
        dims.d[k] = in[i].d[k]->isConstant() ? in[i].d[k]->getConstantValue() : -1;
      }
      return dims;
    }));
    out[0] = in[scan::U];
    return 0;
  });
}

bool SelectiveScanPlugin::supportsFormatCombination(int32_t position,
                                                    const DynamicPluginTensorDesc* in_out,
                                                    int32_t in_count, int32_t out_count) noexcept {
  return guarded(false, [&] {
    check_count(in_count, out_count);
    const PluginTensorDesc& tensor = in_out[position].desc;
    const DataType of_u = in_out[scan::U].desc.type;
    const std::size_t input = position < in_count ? inputs_[position] : scan::U;
    return tensor.format == nvinfer1::TensorFormat::kLINEAR && element_type(of_u) &&
           tensor.type == expected_type(input, of_u);
  });
}

// A smaller batch is cut into more pieces and may need more than a larger one.
size_t SelectiveScanPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* in, int32_t in_count,
                                             const DynamicPluginTensorDesc*,
                                             int32_t out_count) const noexcept {
  return guarded<size_t>(0, [&] {
    check_count(in_count, out_count);
    scan::Inputs largest = read_inputs(inputs_, [in](std::size_t i) { return in[i].max; });
    auto args = scan::arguments(largest, {*element_type(in[0].desc.type), false, false}, nullptr);
    size_t most = 0;
    for (args.batch = in[0].min.d[0]; args.batch <= in[0].max.d[0]; ++args.batch) {
      most = std::max(most, sgmf_selective_scan_cuda_workspace(&args, fields_.multiprocessors));
    }
    return most;
  });
}

int32_t SelectiveScanPlugin::onShapeChange(const PluginTensorDesc* in, int32_t in_count,
                                           const PluginTensorDesc*, int32_t out_count) noexcept {
  return guarded(failed, [&] {
    check_count(in_count, out_count);
    scan::check_shapes(read_inputs(inputs_, [in](std::size_t i) { return in[i].dims; }));
    return 0;
  });
}

int32_t SelectiveScanPlugin::enqueue(const PluginTensorDesc* in, const PluginTensorDesc*,
                                     const void* const* in_data, void* const* out_data,
                                     void* workspace, cudaStream_t stream) noexcept {
  return guarded(failed, [&] {
    scan::Inputs inputs = read_inputs(inputs_, [in](std::size_t i) { return in[i].dims; });
    for (std::size_t i = 0; i < inputs_.size(); ++i) inputs[inputs_[i]].data = in_data[i];
    const auto type = element_type(in[0].type);
    if (!type) throw std::invalid_argument("SelectiveScan: u has a type that it does not support");
    const auto args = scan::arguments(
        inputs, {*type, fields_.delta_softplus != 0, fields_.reverse != 0}, out_data[0]);
    const size_t bytes = sgmf_selective_scan_cuda_workspace(&args, fields_.multiprocessors);
    const char* error =
        sgmf_selective_scan_cuda(&args, workspace, bytes, fields_.multiprocessors, stream);
    if (error) throw std::runtime_error(std::string("SelectiveScan: ") + error);
    return 0;
  });
}

nvinfer1::IPluginV3* SelectiveScanPlugin::attachToContext(
    nvinfer1::IPluginResourceContext*) noexcept {
  return clone();
}

const nvinfer1::PluginFieldCollection* SelectiveScanPlugin::getFieldsToSerialize() noexcept {
  return &collection_;
}

SelectiveScanCreator::SelectiveScanCreator() {
  for (const Field& field : attributes) {
    attributes_.emplace_back(field.name, nullptr, PluginFieldType::kINT32, 1);
  }
  collection_ = {static_cast<int32_t>(attributes_.size()), attributes_.data()};
}

nvinfer1::IPluginV3* SelectiveScanCreator::createPlugin(
    const char*, const nvinfer1::PluginFieldCollection* fields, nvinfer1::TensorRTPhase) noexcept {
  return guarded<nvinfer1::IPluginV3*>(
      nullptr, [&] { return new SelectiveScanPlugin(read_fields(fields)); });
}

const nvinfer1::PluginFieldCollection* SelectiveScanCreator::getFieldNames() noexcept {
  return &collection_;
}

const char* SelectiveScanCreator::getPluginName() const noexcept { return name; }
const char* SelectiveScanCreator::getPluginVersion() const noexcept { return version; }
const char* SelectiveScanCreator::getPluginNamespace() const noexcept { return name_space; }

}  // namespace sgmf::tensorrt
