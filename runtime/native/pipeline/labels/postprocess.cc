#include "pipeline/labels/postprocess.h"

#include <algorithm>

#include "kernels/interface/keep_largest.h"
#include "pipeline/error.h"
#include "python/kernel_call.h"

namespace sgmf {

int64_t postprocessing_bytes(const std::vector<KeepLargest>& steps, const Triple& shape) {
  int64_t most = 0;
  for (const KeepLargest& step : steps) {
    most =
        std::max(most, sgmf_keep_largest_bytes(shape.data(), step.connectivity, step.equals_stay));
  }
  return most;
}

void postprocess(const LabelBuffer& labels, const Triple& shape,
                 const std::vector<KeepLargest>& steps, const std::function<bool()>& cancelled) {
  for (const KeepLargest& step : steps) {
    if (cancelled && cancelled()) {
      throw Error(ErrorCode::cancelled, "the prediction was cancelled");
    }
    sgmf_keep_largest_args args{};
    args.labels = labels.labels;
    args.is_uint16 = labels.type == ElementType::uint16;
    std::copy(shape.begin(), shape.end(), args.extent);
    std::copy(labels.strides.begin(), labels.strides.end(), args.stride);
    args.values = step.labels.data();
    args.value_count = static_cast<int64_t>(step.labels.size());
    args.connectivity = step.connectivity;
    args.components = step.components;
    args.equals_stay = step.equals_stay;
    expect_success(sgmf_keep_largest(&args, 1));
  }
}

}  // namespace sgmf
