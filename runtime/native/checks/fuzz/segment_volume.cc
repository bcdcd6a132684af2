// Volumes of any shape, stride, type and affine through the whole pipeline around a network that
// costs nothing: labels or an error, never anything else.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "libsgmf/buffers.h"
#include "libsgmf/status.h"
#include "pipeline/error.h"
#include "pipeline/segment.h"

namespace {

constexpr int64_t budget_bytes = 4 << 20;
constexpr int64_t classes = 3;

// Small numbers mostly, any number sometimes.
int64_t extent(FuzzedDataProvider& data) {
  return data.ConsumeIntegralInRange(0, 15) == 0 ? data.ConsumeIntegral<int64_t>()
                                                 : data.ConsumeIntegralInRange<int64_t>(0, 40);
}

double number(FuzzedDataProvider& data) {
  switch (data.ConsumeIntegralInRange(0, 3)) {
    case 0: return data.ConsumeFloatingPoint<double>();
    case 1: return data.ConsumeIntegralInRange(-3, 3);
    default: return data.ConsumeFloatingPointInRange(-4.0, 4.0);
  }
}

void fill_affine(FuzzedDataProvider& data, double* affine) {
  for (int i = 0; i < 16; ++i) affine[i] = i % 5 == 0 ? 1 : 0;
  const int changes = data.ConsumeIntegralInRange(0, 16);
  for (int i = 0; i < changes; ++i) affine[data.ConsumeIntegralInRange(0, 15)] = number(data);
}

sgmf::Resampling resampling(FuzzedDataProvider& data) {
  sgmf::Resampling found;
  found.order = data.ConsumeIntegralInRange(0, 5);
  found.order_z = data.ConsumeIntegralInRange(0, 5);
  if (data.ConsumeBool()) found.separate_z = data.ConsumeBool();
  return found;
}

sgmf::Spec specification(FuzzedDataProvider& data, int64_t channels) {
  sgmf::Spec spec;
  sgmf::Normalization normalization;
  normalization.scheme = static_cast<sgmf::NormalizationScheme>(data.ConsumeIntegralInRange(0, 5));
  normalization.use_mask = data.ConsumeBool();
  normalization.std = normalization.upper = 1;
  spec.preprocessing.channels.assign(static_cast<size_t>(channels), "scan");
  spec.preprocessing.normalization.assign(static_cast<size_t>(channels), normalization);
  if (data.ConsumeBool()) spec.preprocessing.orientation = "";
  std::array<int, 3> axes{0, 1, 2};
  for (int i = data.ConsumeIntegralInRange(0, 5); i > 0; --i) {
    std::next_permutation(axes.begin(), axes.end());
  }
  spec.preprocessing.transpose_forward = axes;
  spec.preprocessing.crop_to_nonzero = data.ConsumeBool();
  if (data.ConsumeBool()) {
    const auto step = [&] { return data.ConsumeFloatingPointInRange(0.2, 4.0); };
    spec.preprocessing.spacing_mm = {step(), step(), step()};
  }
  spec.preprocessing.resampling = resampling(data);
  spec.preprocessing.logits_resampling = resampling(data);
  const auto side = [&] { return data.ConsumeIntegralInRange<int64_t>(8, 16); };
  spec.tiling.tile = {side(), side(), side()};
  spec.tiling.step = data.ConsumeFloatingPointInRange(0.5, 1.0);
  spec.tiling.gaussian = data.ConsumeBool();
  spec.tiling.scheme = static_cast<sgmf::TilingScheme>(data.ConsumeIntegralInRange(0, 1));
  spec.output.label_values = {0, 1, 2};
  if (data.ConsumeBool()) spec.output.region_values = {2, 1, 2};
  if (data.ConsumeBool()) spec.postprocessing = {{{1, 2}}, {{1}}};
  return spec;
}

// A network that costs nothing, with logits on a grid whose extents divide the tile's.
class CheapNetwork : public sgmf::Network {
 public:
  CheapNetwork(const sgmf::Triple& tile, const sgmf::Triple& scales) : shape_(tile) {
    for (int axis = 0; axis < 3; ++axis) {
      if (tile[axis] % scales[axis] == 0) shape_[axis] /= scales[axis];
    }
  }

  void run(const float* tiles, int64_t count, float* logits) override {
    const int64_t values = count * classes * shape_[0] * shape_[1] * shape_[2];
    for (int64_t i = 0; i < values; ++i) logits[i] = tiles[0] + static_cast<float>(i % 7);
  }
  sgmf::Triple logits_shape(const sgmf::Triple&) const override { return shape_; }

 private:
  sgmf::Triple shape_;
};

void segment(FuzzedDataProvider& data) {
  static std::vector<double> voxels(1 << 16, 1.5);
  static std::vector<uint16_t> memory(1 << 16);
  static sgmf::Workspace workspace;
  sgmf_volume volume{};
  volume.element_type = data.ConsumeIntegralInRange(0, 11);
  volume.voxels = voxels.data();
  volume.size_bytes = voxels.size() * sizeof voxels[0];
  volume.channels = data.ConsumeIntegralInRange(0, 3);
  for (int64_t& each : volume.shape) each = extent(data);
  if (data.ConsumeBool()) {
    for (int64_t& each : volume.strides) each = extent(data);
  }
  fill_affine(data, volume.affine);
  sgmf_labels labels{};
  labels.element_type = data.ConsumeIntegralInRange(0, 3);
  labels.labels = memory.data();
  labels.size_bytes = memory.size() * sizeof memory[0];
  const sgmf::Spec spec = specification(data, volume.channels);
  const auto scale = [&] { return data.ConsumeIntegralInRange<int64_t>(1, 4); };
  CheapNetwork network(spec.tiling.tile, {scale(), scale(), scale()});
  sgmf::SegmentOptions options;
  options.budget_bytes = budget_bytes;
  options.threads = 1;
  // Volumes at the edge of the budget may take many tiles: a few of them show what there is.
  options.progress = [](int64_t done, int64_t) { return done < 40; };
  sgmf::segment(sgmf::embedding::to_volume(volume), spec, network,
                sgmf::embedding::to_label_buffer(labels, volume, 2), options, workspace);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider provider(data, size);
  try {
    segment(provider);
  } catch (const sgmf::Error&) {
  } catch (const sgmf::embedding::StatusError&) {}
  return 0;
}
