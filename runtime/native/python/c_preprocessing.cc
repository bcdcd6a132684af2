// Preprocessing and its parts for Python.
#include <algorithm>

#include "pipeline/geometry/channel_view.h"
#include "pipeline/geometry/crop.h"
#include "pipeline/geometry/orientation.h"
#include "pipeline/grid_check.h"
#include "pipeline/labels/label_masks.h"
#include "pipeline/prepare.h"
#include "pipeline/sampling/axis_operator.h"
#include "pipeline/sampling/axis_taps.h"
#include "pipeline/sampling/normalize.h"
#include "pipeline/sampling/resample.h"
#include "python/c_conversions.h"

extern "C" {

int32_t sgmf_find_network_grid(const sgmf_scan* volume, const char* preprocessing, int32_t whole,
                               sgmf_network_grid* grid, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Volume scan = sgmf::volume_of(*volume);
    const sgmf::Preprocessing spec = sgmf::preprocessing_of(preprocessing);
    sgmf::store(whole ? sgmf::whole_grid(scan, spec) : sgmf::network_grid(scan, spec), grid);
  });
}

int32_t sgmf_check_grid(const sgmf_network_grid* grid, const char* tiling, sgmf_failure* failure) {
  return sgmf::guarded(failure,
                       [&] { sgmf::check_grid(sgmf::grid_of(*grid), sgmf::tiling_of(tiling)); });
}

int32_t sgmf_fill_image(const sgmf_scan* volume, const char* preprocessing,
                        const sgmf_network_grid* grid, const sgmf_scan* labels, int32_t threads,
                        float* image, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::NetworkGrid found = sgmf::grid_of(*grid);
    std::vector<sgmf::ChannelView> map;
    if (labels) map = sgmf::cropped_channels(sgmf::volume_of(*labels), found);
    sgmf::fill_image(sgmf::volume_of(*volume), sgmf::preprocessing_of(preprocessing), found,
                     labels ? &map.at(0) : nullptr, sgmf::threads_of(threads), nullptr, image);
  });
}

int32_t sgmf_fill_masks(const sgmf_scan* volume, const sgmf_network_grid* grid,
                        const sgmf_scan* labels, const char* stage, int32_t threads, float* masks,
                        sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::NetworkGrid found = sgmf::grid_of(*grid);
    const int count = sgmf::threads_of(threads);
    const auto inside =
        sgmf::nonzero_mask(sgmf::cropped_channels(sgmf::volume_of(*volume), found), count);
    const auto map = sgmf::cropped_channels(sgmf::volume_of(*labels), found);
    sgmf::fill_masks(map.at(0), inside, found, sgmf::previous_stage_of(stage), count, masks);
  });
}

int32_t sgmf_measure_affine(const double affine[16], double spacing_mm[3], sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Affine given = sgmf::affine_of(affine);
    sgmf::check(given);
    const sgmf::Spacing found = sgmf::spacing_mm(given);
    std::copy_n(found.begin(), 3, spacing_mm);
  });
}

int32_t sgmf_orient(const double affine[16], const char* codes, int32_t axes[3], int32_t reverse[3],
                    sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Reorientation found = sgmf::orient_to(sgmf::affine_of(affine), codes);
    std::copy_n(found.axes.begin(), 3, axes);
    std::copy_n(found.reverse.begin(), 3, reverse);
  });
}

int32_t sgmf_normalize(const float* channel, const int64_t shape[3], const int64_t strides[3],
                       const char* normalization, const uint8_t* mask, int32_t threads, float* out,
                       sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::ChannelView view{reinterpret_cast<const char*>(channel), sgmf::ElementType::float32,
                                 sgmf::triple<int64_t>(shape), sgmf::triple<int64_t>(strides)};
    sgmf::NormalizedChannel(view, sgmf::normalization_of(normalization), mask,
                            sgmf::threads_of(threads))
        .read(sgmf::whole(view.shape), out);
  });
}

int32_t sgmf_resize_channels(const sgmf_resize* resize, const char* resampling, const float* image,
                             int64_t channels, int32_t threads, float* out, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const auto shape = sgmf::triple<int64_t>(resize->shape);
    const auto new_shape = sgmf::triple<int64_t>(resize->new_shape);
    const sgmf::ChannelResize each(shape, new_shape, sgmf::triple<double>(resize->spacing_mm),
                                   sgmf::triple<double>(resize->new_spacing_mm),
                                   sgmf::resampling_of(resampling), sgmf::threads_of(threads));
    for (int64_t channel = 0; channel < channels; ++channel) {
      each.run(sgmf::array_reader(image + channel * sgmf::voxel_count(shape), shape),
               out + channel * sgmf::voxel_count(new_shape));
    }
  });
}

int32_t sgmf_find_new_shape(sgmf_resize* resize, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Triple found = sgmf::target_shape(sgmf::triple<int64_t>(resize->shape),
                                                  sgmf::triple<double>(resize->spacing_mm),
                                                  sgmf::triple<double>(resize->new_spacing_mm));
    std::copy_n(found.begin(), 3, resize->new_shape);
  });
}

int32_t sgmf_find_separate_axis(const sgmf_resize* resize, const char* resampling, int32_t* axis,
                                sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    *axis = sgmf::separate_axis(sgmf::triple<double>(resize->spacing_mm),
                                sgmf::triple<double>(resize->new_spacing_mm),
                                sgmf::resampling_of(resampling))
                .value_or(-1);
  });
}

int32_t sgmf_find_taps(const sgmf_resize* resize, const char* resampling, int32_t axis,
                       int64_t* low, int64_t* high, double* weight, int32_t* found,
                       sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const auto taps = sgmf::grid_taps(
        sgmf::triple<int64_t>(resize->shape), sgmf::triple<int64_t>(resize->new_shape),
        sgmf::triple<double>(resize->spacing_mm), sgmf::triple<double>(resize->new_spacing_mm),
        sgmf::resampling_of(resampling));
    *found = taps ? 1 : 0;
    if (!taps) return;
    const sgmf::AxisTaps& along = taps->at(static_cast<std::size_t>(axis));
    std::copy(along.low.begin(), along.low.end(), low);
    std::copy(along.high.begin(), along.high.end(), high);
    std::copy(along.weight.begin(), along.weight.end(), weight);
  });
}

int32_t sgmf_resize_weights(int64_t length, int64_t new_length, int32_t order, double* weights,
                            sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::AxisOperator found = sgmf::resize_operator(length, new_length, order);
    std::fill_n(weights, length * new_length, 0.0);
    for (int64_t i = 0; i < new_length; ++i) {
      for (int64_t tap = found.starts[i]; tap < found.starts[i + 1]; ++tap) {
        weights[i * length + found.columns[tap]] = found.weights[tap];
      }
    }
  });
}

}  // extern "C"
