#include <algorithm>
#include <cstdio>
#include <functional>
#include <new>
#include <utility>

#include "../src/parallel.h"
#include "axis_operator.h"
#include "channel_view.h"
#include "normalize.h"
#include "orientation.h"
#include "prepare.h"
#include "resample.h"
#include "segment.h"
#include "sgmf/pipeline.h"

namespace sgmf {
namespace {

// A callback asked to stop; why is its own business.
struct Stopped {};

int32_t fail(sgmf_failure* failure, int32_t code, const char* message) {
  std::snprintf(failure->message, sizeof(failure->message), "%s", message);
  return code;
}

int32_t code_of(const Error& error) { return static_cast<int32_t>(error.code()) + SGMF_ARGUMENT; }

// Runs a function whose exceptions become a failure.
template <typename F>
int32_t guarded(sgmf_failure* failure, F f) {
  try {
    f();
    return SGMF_OK;
  } catch (const Stopped&) {
    return fail(failure, SGMF_CALLBACK, "a callback asked to stop");
  } catch (const BudgetError& error) {
    failure->budget_bytes = error.budget_bytes();
    failure->least_bytes = error.least_bytes();
    return fail(failure, SGMF_BUDGET, error.subject().c_str());
  } catch (const Error& error) {
    return fail(failure, code_of(error), error.what());
  } catch (const std::bad_alloc&) {
    return fail(failure, SGMF_MEMORY, "the system has no more memory");
  } catch (const std::exception& error) {
    return fail(failure, SGMF_ARGUMENT, error.what());
  }
}

template <typename T, typename S>
std::array<T, 3> triple(const S* values) {
  return {static_cast<T>(values[0]), static_cast<T>(values[1]), static_cast<T>(values[2])};
}

Affine affine_of(const double* given) {
  Affine affine;
  for (int i = 0; i < 16; ++i) affine[i / 4][i % 4] = given[i];
  return affine;
}

Volume volume_of(const sgmf_volume& given) {
  Volume volume;
  volume.voxels = given.voxels;
  volume.type = static_cast<ElementType>(given.element_type);
  volume.channels = given.channels;
  volume.shape = triple<int64_t>(given.shape);
  std::copy_n(given.strides, 4, volume.strides.begin());
  volume.affine = affine_of(given.affine);
  return volume;
}

Resampling resampling_of(const sgmf_resampling& given) {
  Resampling resampling{given.order, given.order_z, {}, given.anisotropy_threshold};
  if (given.separate_z >= 0) resampling.separate_z = given.separate_z != 0;
  return resampling;
}

Normalization normalization_of(const sgmf_normalization& n) {
  return {
      static_cast<NormalizationScheme>(n.scheme), n.use_mask != 0, n.mean, n.std, n.lower, n.upper};
}

Preprocessing preprocessing_of(const sgmf_preprocessing& given) {
  Preprocessing spec;
  spec.channels.assign(given.channel_names, given.channel_names + given.channels);
  for (int64_t i = 0; i < given.channels; ++i) {
    spec.normalization.push_back(normalization_of(given.normalization[i]));
  }
  spec.orientation = given.orientation ? given.orientation : "";
  spec.transpose_forward = triple<int>(given.transpose_forward);
  spec.crop_to_nonzero = given.crop_to_nonzero != 0;
  if (given.spacing_mm) spec.spacing_mm = triple<double>(given.spacing_mm);
  spec.resampling = resampling_of(given.resampling);
  spec.logits_resampling = resampling_of(given.logits_resampling);
  check(spec);
  return spec;
}

NetworkGrid grid_of(const sgmf_network_grid& given) {
  NetworkGrid grid;
  for (int axis = 0; axis < 3; ++axis) {
    grid.reorientation.axes[axis] = given.axes[axis];
    grid.reorientation.reverse[axis] = given.reverse[axis] != 0;
    grid.box[axis] = {given.box[2 * axis], given.box[2 * axis + 1]};
  }
  grid.uncropped_shape = triple<int64_t>(given.uncropped_shape);
  grid.scan_spacing_mm = triple<double>(given.scan_spacing_mm);
  grid.spacing_mm = triple<double>(given.spacing_mm);
  grid.shape = triple<int64_t>(given.shape);
  return grid;
}

void store(const NetworkGrid& grid, sgmf_network_grid* out) {
  for (int axis = 0; axis < 3; ++axis) {
    out->axes[axis] = grid.reorientation.axes[axis];
    out->reverse[axis] = grid.reorientation.reverse[axis];
    out->uncropped_shape[axis] = grid.uncropped_shape[axis];
    out->box[2 * axis] = grid.box[axis].begin;
    out->box[2 * axis + 1] = grid.box[axis].end;
    out->scan_spacing_mm[axis] = grid.scan_spacing_mm[axis];
    out->spacing_mm[axis] = grid.spacing_mm[axis];
    out->shape[axis] = grid.shape[axis];
  }
}

Tiling tiling_of(const sgmf_tiling& given) {
  Tiling tiling;
  tiling.tile = triple<int64_t>(given.tile);
  tiling.step = given.step;
  tiling.gaussian = given.gaussian != 0;
  tiling.scheme = static_cast<TilingScheme>(given.scheme);
  for (int axis = 0; axis < 3; ++axis) {
    if (given.mirror_axes[axis]) tiling.mirror_axes.push_back(axis);
  }
  return tiling;
}

Output output_of(const sgmf_output& given) {
  return {{given.label_values, given.label_values + given.labels},
          {given.region_values, given.region_values + given.regions}};
}

FunctionNetwork network_of(const sgmf_segment_args& args) {
  return FunctionNetwork(
      [&args](const float* tiles, int64_t count, float* logits) {
        if (args.run(args.user, tiles, count, logits)) throw Stopped();
      },
      args.tiles_at_once, args.overlap != 0);
}

int threads_of(int32_t threads) { return threads > 0 ? threads : available_threads(); }

}  // namespace
}  // namespace sgmf

extern "C" {

int32_t sgmf_find_network_grid(const sgmf_volume* volume, const sgmf_preprocessing* spec,
                               int32_t whole, sgmf_network_grid* grid, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Volume scan = sgmf::volume_of(*volume);
    const sgmf::Preprocessing preprocessing = sgmf::preprocessing_of(*spec);
    sgmf::store(
        whole ? sgmf::whole_grid(scan, preprocessing) : sgmf::network_grid(scan, preprocessing),
        grid);
  });
}

int32_t sgmf_fill_image(const sgmf_volume* volume, const sgmf_preprocessing* spec,
                        const sgmf_network_grid* grid, int32_t threads, float* image,
                        sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    sgmf::fill_image(sgmf::volume_of(*volume), sgmf::preprocessing_of(*spec), sgmf::grid_of(*grid),
                     sgmf::threads_of(threads), nullptr, image);
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
                       const sgmf_normalization* spec, const uint8_t* mask, int32_t threads,
                       float* out, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::ChannelView view{reinterpret_cast<const char*>(channel), sgmf::ElementType::float32,
                                 sgmf::triple<int64_t>(shape), sgmf::triple<int64_t>(strides)};
    sgmf::NormalizedChannel(view, sgmf::normalization_of(*spec), mask, sgmf::threads_of(threads))
        .read(sgmf::whole(view.shape), out);
  });
}

int32_t sgmf_resize_channels(const sgmf_resize* resize, const float* image, int64_t channels,
                             int32_t threads, float* out, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const auto shape = sgmf::triple<int64_t>(resize->shape);
    const auto new_shape = sgmf::triple<int64_t>(resize->new_shape);
    const sgmf::ChannelResize each(shape, new_shape, sgmf::triple<double>(resize->spacing_mm),
                                   sgmf::triple<double>(resize->new_spacing_mm),
                                   sgmf::resampling_of(resize->resampling),
                                   sgmf::threads_of(threads));
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

int32_t sgmf_find_separate_axis(const sgmf_resize* resize, int32_t* axis, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    *axis = sgmf::separate_axis(sgmf::triple<double>(resize->spacing_mm),
                                sgmf::triple<double>(resize->new_spacing_mm),
                                sgmf::resampling_of(resize->resampling))
                .value_or(-1);
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

int32_t sgmf_segment_volume(const sgmf_segment_args* args, sgmf_failure* failure) {
  return sgmf::guarded(failure, [&] {
    const sgmf::Spec spec{sgmf::preprocessing_of(*args->preprocessing),
                          sgmf::tiling_of(*args->tiling), sgmf::output_of(*args->output)};
    sgmf::FunctionNetwork network = sgmf::network_of(*args);
    sgmf::SegmentOptions options;
    options.budget_bytes = args->budget_bytes;
    options.threads = args->threads;
    options.mirror = args->mirror != 0;
    options.progress = [args](int64_t done, int64_t count) {
      if (args->progress && args->progress(args->user, done, count)) throw sgmf::Stopped();
      return true;
    };
    sgmf::Workspace workspace;
    sgmf::segment(sgmf::volume_of(*args->volume), spec, network,
                  {args->labels, static_cast<sgmf::ElementType>(args->label_type),
                   sgmf::triple<int64_t>(args->label_strides)},
                  options, workspace);
  });
}

}  // extern "C"
