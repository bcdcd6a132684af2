#include "host_lines.h"

#include <algorithm>
#include <cstring>

#include "kernel_call.h"
#include "sgmf/blend_tile.h"
#include "sgmf/label_resample.h"

namespace sgmf {
namespace {

// Labels that are computed at once, but for a single plane that takes more.
constexpr int64_t labels_at_once = int64_t{1} << 22;

int64_t planes_at_once(const Triple& target) {
  return std::max<int64_t>(1, labels_at_once / std::max<int64_t>(1, target[1] * target[2]));
}

template <typename T>
void write_row(const uint16_t* values, int64_t count, int64_t stride, T* out) {
  for (int64_t x = 0; x < count; ++x) out[x * stride] = static_cast<T>(values[x]);
}

}  // namespace

HostLines::HostLines(TileFeed& feed, const Triple& tile, const std::vector<float>& weights,
                     int64_t classes, int threads, LogitSink& sink, Workspace& workspace)
    : feed_(feed),
      tile_(tile),
      weights_(weights),
      classes_(classes),
      threads_(threads),
      sink_(sink),
      memory_(workspace.sums) {}

void HostLines::begin(int64_t capacity, int64_t width) {
  sums_ = memory_.at_least(capacity * classes_ * width);
  width_ = width;
}

void HostLines::clear(const std::vector<int64_t>& lines) {
  const int64_t size = classes_ * width_;
  for (const int64_t line : lines) std::fill_n(sums_ + line * size, size, 0.0f);
}

void HostLines::next_tile() { logits_ = feed_.next(); }

void HostLines::add(const Places& places, int64_t column, const Box& inside) {
  const std::vector<float*> lines = rows(places, column);
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
}

void HostLines::finish(const Places& places, const Box& target, const GridTaps& taps) {
  const std::vector<float*> lines = rows(places, 0);
  sink_.take({lines.data(), places.depth, places.height, width_, classes_, width_, target, taps,
              sums_, &places});
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

void LabelMap::clear() {
  const int64_t bytes = labels_.bytes_per_label();
  const Triple& shape = layout_.shape;
  const Triple& step = layout_.strides;
  char* first = static_cast<char*>(labels_.labels) + layout_.first * bytes;
  own_threads(worthwhile_threads(threads_, voxel_count(shape)))(
      static_cast<std::size_t>(shape[0]), [&](std::size_t plane) {
        const int64_t z = static_cast<int64_t>(plane);
        for (int64_t y = 0; y < shape[1]; ++y) {
          char* row = first + (z * step[0] + y * step[1]) * bytes;
          for (int64_t x = 0; x < shape[2]; ++x) {
            std::memset(row + x * step[2] * bytes, 0, static_cast<std::size_t>(bytes));
          }
        }
      });
}

void LabelMap::write(const Box& part, const uint16_t* values) {
  const Triple size = extent(part);
  const Triple& step = layout_.strides;
  int64_t first = layout_.first;
  for (int axis = 0; axis < 3; ++axis) first += (part[axis].begin + box_[axis].begin) * step[axis];
  own_threads(worthwhile_threads(threads_, voxel_count(size)))(
      static_cast<std::size_t>(size[0]), [&](std::size_t plane) {
        const int64_t z = static_cast<int64_t>(plane);
        for (int64_t y = 0; y < size[1]; ++y) {
          const uint16_t* row = values + (z * size[1] + y) * size[2];
          const int64_t place = first + z * step[0] + y * step[1];
          if (labels_.type == ElementType::uint8) {
            write_row(row, size[2], step[2], static_cast<uint8_t*>(labels_.labels) + place);
          } else {
            write_row(row, size[2], step[2], static_cast<uint16_t*>(labels_.labels) + place);
          }
        }
      });
}

int64_t LabelSink::scratch_bytes(const Triple& target) {
  return std::min(target[0], planes_at_once(target)) * target[1] * target[2] *
         static_cast<int64_t>(sizeof(uint16_t));
}

void LabelSink::take(const FinishedLogits& logits) {
  const Triple size = extent(logits.target);
  const int64_t planes = planes_at_once(size);
  for (int64_t begin = 0; begin < size[0]; begin += planes) {
    const Range some{begin, std::min(begin + planes, size[0])};
    values_.resize(static_cast<std::size_t>(some.size() * size[1] * size[2]));
    sgmf_label_resample_args args{};
    args.lines = logits.rows;
    args.channels = logits.channels;
    args.channel_stride = logits.channel_stride;
    args.depth = logits.depth;
    args.height = logits.height;
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
  const std::vector<int64_t>& planes = logits.taps[0].low;
  const std::vector<int64_t>& rows = logits.taps[1].low;
  for (int64_t channel = 0; channel < logits.channels; ++channel) {
    for (int64_t z = 0; z < target[0].size(); ++z) {
      for (int64_t y = 0; y < target[1].size(); ++y) {
        const float* from = logits.rows[planes[z] * logits.height + rows[y]] +
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
