#include "pipeline/labels/host_lines.h"

#include <algorithm>
#include <atomic>

#include "kernels/finite.h"
#include "kernels/interface/blend_tile.h"
#include "kernels/interface/label_resample.h"
#include "kernels/volumes/label_rows.h"
#include "pipeline/error.h"
#include "pipeline/labels/probabilities.h"
#include "python/kernel_call.h"

namespace sgmf {
namespace {

// Labels that are computed at once, but for a single plane that takes more.
constexpr int64_t labels_at_once = int64_t{1} << 22;

// Labels of the same plane that are on the way to the map at once, but for a single row of more.
constexpr int64_t labels_in_cache = int64_t{1} << 14;

int64_t planes_at_once(const Triple& target) {
  return std::max<int64_t>(1, labels_at_once / std::max<int64_t>(1, target[1] * target[2]));
}

template <typename T>
void write_row(const uint16_t* values, int64_t count, int64_t stride, T* out) {
  if (stride == 1) {
    for (int64_t x = 0; x < count; ++x) out[x] = static_cast<T>(values[x]);
  } else {
    for (int64_t x = 0; x < count; ++x) out[x * stride] = static_cast<T>(values[x]);
  }
}

}  // namespace

std::vector<const float*> FinishedLogits::rows() const {
  std::vector<const float*> found;
  found.reserve(places.lines.size());
  for (const int64_t line : places.lines) found.push_back(memory + line * line_stride);
  return found;
}

HostLines::HostLines(TileFeed& feed, const Triple& tile, const std::vector<float>& weights,
                     const Output& output, int threads, LogitSink& sink, Workspace& workspace)
    : feed_(feed),
      tile_(tile),
      weights_(weights),
      output_(output),
      classes_(output.channels()),
      threads_(threads),
      sink_(sink),
      memory_(workspace.sums) {}

void HostLines::begin(int64_t capacity, int64_t width) {
  sums_ = memory_.at_least(capacity * classes_ * width);
  width_ = width;
}

void HostLines::clear(const std::vector<int64_t>& lines) {
  const int64_t size = classes_ * width_;
  const int64_t count = static_cast<int64_t>(lines.size());
  own_threads(worthwhile_threads(threads_, count * size))(
      lines.size(), [&](std::size_t i) { std::fill_n(sums_ + lines[i] * size, size, 0.0f); });
}

void HostLines::next_tile() { logits_ = feed_.next(); }

void HostLines::add(const Places& places, int64_t column, const Box& inside) {
  const std::vector<float*> lines = rows(places, column);
  if (const Enlargement* enlargement = feed_.enlargement()) {
    return add_enlarged(*enlargement, lines, inside);
  }
  const int64_t first = (inside[0].begin * tile_[1] + inside[1].begin) * tile_[2] + inside[2].begin;
  sgmf_blend_tile_args args{};
  args.channels = classes_;
  for (int axis = 0; axis < 3; ++axis) args.extent[axis] = inside[axis].size();
  args.logits = logits_ + first;
  args.logits_stride[0] = voxel_count(tile_);
  args.logits_stride[1] = args.weights_stride[0] = tile_[1] * tile_[2];
  args.logits_stride[2] = args.weights_stride[1] = tile_[2];
  args.weights = weights_.data() + first;
  args.lines = lines.data();
  args.channel_stride = width_;
  expect_success(sgmf_blend_tile(&args, threads_));
}

// As add, with logits that are made larger plane by plane, in the nearest caches.
void HostLines::add_enlarged(const Enlargement& enlargement, const std::vector<float*>& lines,
                             const Box& inside) const {
  const Triple size = extent(inside);
  own_threads(worthwhile_threads(threads_, classes_ * voxel_count(size)))(
      static_cast<std::size_t>(size[0]), [&](std::size_t plane) {
        std::vector<float> logits(static_cast<std::size_t>(size[1] * tile_[2]));
        std::vector<float*> sums(static_cast<std::size_t>(size[1]));
        const int64_t row =
            (inside[0].begin + static_cast<int64_t>(plane)) * tile_[1] + inside[1].begin;
        sgmf_blend_tile_args args{};
        args.channels = 1;
        args.extent[0] = 1;
        args.extent[1] = size[1];
        args.extent[2] = size[2];
        args.logits = logits.data() + inside[2].begin;
        args.logits_stride[2] = args.weights_stride[1] = tile_[2];
        args.weights = weights_.data() + row * tile_[2] + inside[2].begin;
        args.lines = sums.data();
        for (int64_t channel = 0; channel < classes_; ++channel) {
          const int64_t first = channel * tile_[0] * tile_[1] + row;
          enlargement.rows(logits_, first, first + size[1], logits.data());
          for (int64_t y = 0; y < size[1]; ++y) {
            sums[y] = lines[static_cast<int64_t>(plane) * size[1] + y] + channel * width_;
          }
          expect_success(sgmf_blend_tile(&args, 1));
        }
      });
}

void HostLines::divide(const Places& places, const std::vector<float>& divisors) {
  const std::vector<float*> lines = rows(places, 0);
  sgmf_divide_lines_args args{};
  args.channels = classes_;
  args.count = static_cast<int64_t>(lines.size());
  args.width = width_;
  args.divisors = divisors.data();
  args.lines = lines.data();
  args.channel_stride = width_;
  expect_success(sgmf_divide_lines(&args, threads_));
  if (!output_.interpolates_probabilities) return;
  std::atomic<bool> finite{true};
  own_threads(worthwhile_threads(threads_, args.count * classes_ * width_))(
      lines.size(), [&](std::size_t i) {
        if (!to_probabilities(lines[i], width_, classes_, width_, output_.region_values.empty())) {
          finite = false;
        }
      });
  if (!finite) throw Error(ErrorCode::backend, not_finite);
}

void HostLines::finish(const Places& places, const Box& target, const GridTaps& taps) {
  sink_.take({sums_, classes_ * width_, width_, classes_, width_, places, target, taps});
}

std::vector<float*> HostLines::rows(const Places& places, int64_t column) const {
  std::vector<float*> found;
  found.reserve(places.lines.size());
  for (const int64_t line : places.lines)
    found.push_back(sums_ + line * classes_ * width_ + column);
  return found;
}

LabelMap::LabelMap(const LabelBuffer& labels, const Triple& stored_shape, const Reorientation& by,
                   const Box& box, int threads)
    : labels_(labels),
      layout_(stored_shape, labels.strides, by),
      box_(box),
      threads_(threads) {}

char* LabelMap::at(int64_t z, int64_t y, int64_t x) const {
  const Triple& step = layout_.strides;
  return static_cast<char*>(labels_.labels) +
         (layout_.first + z * step[0] + y * step[1] + x * step[2]) * labels_.bytes_per_label();
}

void LabelMap::clear_outside() {
  const Triple& shape = layout_.shape;
  if (box_ == whole(shape)) return;
  const int64_t bytes = labels_.bytes_per_label(), step = layout_.strides[2] * bytes;
  own_threads(worthwhile_threads(threads_, voxel_count(shape)))(
      static_cast<std::size_t>(shape[0]), [&](std::size_t plane) {
        for (int64_t y = 0; y < shape[1]; ++y) {
          char* row = at(static_cast<int64_t>(plane), y, 0);
          for (int64_t x = 0; x < shape[2]; ++x) std::fill_n(row + x * step, bytes, char{0});
        }
      });
}

void LabelMap::write(const Box& part, const uint16_t* values) {
  const Triple size = extent(part);
  const int64_t stride = layout_.strides[2];
  own_threads(worthwhile_threads(threads_, voxel_count(size)))(
      static_cast<std::size_t>(size[0]), [&](std::size_t plane) {
        const int64_t z = static_cast<int64_t>(plane);
        for (int64_t y = 0; y < size[1]; ++y) {
          const uint16_t* row = values + (z * size[1] + y) * size[2];
          char* out = at(part[0].begin + box_[0].begin + z, part[1].begin + box_[1].begin + y,
                         part[2].begin + box_[2].begin);
          if (labels_.type == ElementType::uint8) {
            write_row(row, size[2], stride, reinterpret_cast<uint8_t*>(out));
          } else {
            write_row(row, size[2], stride, reinterpret_cast<uint16_t*>(out));
          }
        }
      });
}

int64_t LabelSink::scratch_bytes(const Triple& target) {
  return std::min(target[0], planes_at_once(target)) * target[1] * target[2] *
         static_cast<int64_t>(sizeof(uint16_t));
}

bool LabelSink::on_grid(const GridTaps& taps) {
  return std::all_of(taps.begin(), taps.end(), [](const AxisTaps& axis) { return axis.on_grid(); });
}

void LabelSink::take(const FinishedLogits& logits) {
  if (on_grid(logits.taps)) {
    take_on_grid(logits);
  } else {
    interpolate(logits);
  }
}

void LabelSink::take_on_grid(const FinishedLogits& logits) {
  const Box& target = logits.target;
  const Triple size = extent(target);
  const std::vector<const float*> rows = logits.rows();
  const auto row = [&](int64_t z, int64_t y) {
    const int64_t line = logits.taps[0].low[z] * logits.places.height + logits.taps[1].low[y];
    return rows[line] + logits.taps[2].low.front();
  };
  const int64_t rows_at_once = std::max<int64_t>(1, labels_in_cache / size[2]);
  std::atomic<bool> finite{true};
  own_threads(worthwhile_threads(
      threads_, voxel_count(size)))(static_cast<std::size_t>(size[0]), [&](std::size_t plane) {
    const int64_t z = static_cast<int64_t>(plane);
    std::vector<uint16_t> values(static_cast<std::size_t>(rows_at_once * size[2]));
    std::vector<const float*> some;
    for (int64_t y = 0; y < size[1]; y += rows_at_once) {
      some.clear();
      const int64_t end = std::min(y + rows_at_once, size[1]);
      for (int64_t i = y; i < end; ++i) some.push_back(row(z, i));
      if (!label_rows({some.data(), end - y, size[2], logits.channels, logits.channel_stride,
                       regions_.empty() ? nullptr : regions_.data()},
                      values.data())) {
        finite = false;
      }
      map_.write({moved({z, z + 1}, target[0].begin), moved({y, end}, target[1].begin), target[2]},
                 values.data());
    }
  });
  if (!finite) throw Error(ErrorCode::backend, not_finite);
}

void LabelSink::interpolate(const FinishedLogits& logits) {
  const std::vector<const float*> rows = logits.rows();
  const Triple size = extent(logits.target);
  const int64_t planes = planes_at_once(size);
  for (int64_t begin = 0; begin < size[0]; begin += planes) {
    const Range some{begin, std::min(begin + planes, size[0])};
    values_.resize(static_cast<std::size_t>(some.size() * size[1] * size[2]));
    sgmf_label_resample_args args{};
    args.lines = rows.data();
    args.channels = logits.channels;
    args.channel_stride = logits.channel_stride;
    args.depth = logits.places.depth;
    args.height = logits.places.height;
    args.width = logits.width;
    const AxisTaps depth = logits.taps[0].part(some, 0);
    args.taps[0] = depth.view();
    args.taps[1] = logits.taps[1].view();
    args.taps[2] = logits.taps[2].view();
    args.regions = regions_.empty() ? nullptr : regions_.data();
    args.labels = values_.data();
    expect_success(sgmf_label_resample(&args, threads_));
    Box part = logits.target;
    part[0] = moved(some, logits.target[0].begin);
    map_.write(part, values_.data());
  }
}

void LogitArray::take(const FinishedLogits& logits) {
  const Box& target = logits.target;
  const std::vector<const float*> lines = logits.rows();
  const std::vector<int64_t>& planes = logits.taps[0].low;
  const std::vector<int64_t>& rows = logits.taps[1].low;
  for (int64_t channel = 0; channel < logits.channels; ++channel) {
    for (int64_t z = 0; z < target[0].size(); ++z) {
      for (int64_t y = 0; y < target[1].size(); ++y) {
        const float* from = lines[planes[z] * logits.places.height + rows[y]] +
                            channel * logits.channel_stride + logits.taps[2].low.front();
        float* to =
            logits_ +
            ((channel * shape_[0] + target[0].begin + z) * shape_[1] + target[1].begin + y) *
                shape_[2] +
            target[2].begin;
        std::copy_n(from, target[2].size(), to);
      }
    }
  }
}

}  // namespace sgmf
