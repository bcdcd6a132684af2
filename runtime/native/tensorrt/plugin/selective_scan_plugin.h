// TensorRT's plugin `SelectiveScan`, version 1, in namespace `segmaformer`, for TensorRT 10.3
// to 11.
//
// A network's node has the inputs u, delta, A, B, C and then those of D, z and delta_bias that it
// uses, in that order: TensorRT knows no inputs left out. Its attributes `has_D`, `has_z` and
// `has_delta_bias` say which those are (0 or 1, 1 where absent); `delta_softplus` and `reverse`
// are the op's own (0 where absent).
#pragma once

#include <NvInfer.h>

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/scan/scan_inputs.h"

namespace sgmf::tensorrt {

// What makes a plugin. The multiprocessors of the device that the engine is built on decide how
// the scan is cut and how much workspace that takes, so the engine keeps their number.
struct ScanFields {
  int32_t delta_softplus = 0;
  int32_t reverse = 0;
  int32_t has_D = 1;
  int32_t has_z = 1;
  int32_t has_delta_bias = 1;
  int32_t multiprocessors = 0;
};

class SelectiveScanPlugin final : public nvinfer1::IPluginV3,
                                  public nvinfer1::IPluginV3OneCore,
                                  public nvinfer1::IPluginV3OneBuild,
                                  public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit SelectiveScanPlugin(const ScanFields& fields);
  SelectiveScanPlugin(const SelectiveScanPlugin&) = delete;
  SelectiveScanPlugin& operator=(const SelectiveScanPlugin&) = delete;

  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t in_count,
                          const nvinfer1::DynamicPluginTensorDesc* out,
                          int32_t out_count) noexcept override;
  int32_t getOutputDataTypes(nvinfer1::DataType* out, int32_t out_count,
                             const nvinfer1::DataType* in,
                             int32_t in_count) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* in, int32_t in_count,
                          const nvinfer1::DimsExprs* shape_in, int32_t shape_in_count,
                          nvinfer1::DimsExprs* out, int32_t out_count,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* in_out,
                                 int32_t in_count, int32_t out_count) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, int32_t in_count,
                          const nvinfer1::DynamicPluginTensorDesc* out,
                          int32_t out_count) const noexcept override;

  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t in_count,
                        const nvinfer1::PluginTensorDesc* out, int32_t out_count) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                  const void* const* in_data, void* const* out_data, void* workspace,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  void check_count(int32_t in_count, int32_t out_count) const;

  ScanFields fields_;
  std::vector<std::size_t> inputs_;  // which of the op's inputs each of the node's is
  std::vector<nvinfer1::PluginField> serialised_;
  nvinfer1::PluginFieldCollection collection_{};
};

class SelectiveScanCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  SelectiveScanCreator();

  // Returns nullptr, and tells TensorRT's log why, for fields that are unknown or out of range.
  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  std::vector<nvinfer1::PluginField> attributes_;
  nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace sgmf::tensorrt
