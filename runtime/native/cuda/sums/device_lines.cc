#include "cuda/sums/device_lines.h"

#include <algorithm>
#include <utility>

#include "pipeline/error.h"

namespace sgmf::cuda {
namespace {

// Labels that are computed at once, but for a single plane that takes more.
constexpr int64_t label_bytes = int64_t{16} << 20;
constexpr int64_t float_bytes = static_cast<int64_t>(sizeof(float));

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

std::size_t weight_bytes(const Triple& tile) {
  return static_cast<std::size_t>(voxel_count(tile) * float_bytes);
}

template <typename T>
std::vector<char> bytes_of(const T* values, std::size_t count) {
  const auto* first = reinterpret_cast<const char*>(values);
  return {first, first + count * sizeof(T)};
}

}  // namespace

DeviceLines::DeviceLines(Task task, DeviceFeed feed)
    : task_(std::move(task)),
      feed_(std::move(feed)),
      stream_(task_.device),
      weights_(task_.device, weight_bytes(task_.tile)),
      not_finite_(task_.device, sizeof(flag_)) {
  send_to(weights_.get(), bytes_of(task_.weights.data(), task_.weights.size()));
  send_to(not_finite_.get(), bytes_of(&flag_, 1));
}

DeviceLines::~DeviceLines() {
  // After an error nothing may go on using the memory.
  const Current current(*task_.device, std::nothrow);
  task_.device->driver().stream_synchronize.call(stream_.get());
}

int64_t DeviceLines::bytes(const Triple& tile, int64_t classes, int64_t lines, int64_t width) {
  const int64_t rows = tile[0] * tile[1];
  const int64_t address_bytes = static_cast<int64_t>(sizeof(Address));
  const int64_t scratch = std::max(rows * (width * float_bytes + address_bytes), label_bytes);
  return (lines * classes * width + voxel_count(tile)) * float_bytes + scratch;
}

void DeviceLines::begin(int64_t capacity, int64_t width) {
  const Current current(*task_.device);
  wait();
  lines_.reset();  // before more is taken
  lines_ = std::make_unique<DeviceMemory>(
      task_.device, static_cast<std::size_t>(capacity * task_.classes * width * float_bytes));
  width_ = width;
}

void DeviceLines::clear(const std::vector<int64_t>& lines) {
  const Current current(*task_.device);
  Tables tables;
  tables.add(addresses(lines));
  LabelKernels::enqueue(task_.kernels.clear_lines, at<float* const>(send(std::move(tables))),
                        static_cast<int64_t>(lines.size()), task_.classes * width_, stream_.get());
}

void DeviceLines::next_tile() { logits_ = feed_.next(); }

void DeviceLines::add(const Places& places, int64_t column, const Box& inside) {
  const Current current(*task_.device);
  const Triple& tile = task_.tile;
  const int64_t first = (inside[0].begin * tile[1] + inside[1].begin) * tile[2] + inside[2].begin;
  Tables tables;
  tables.add(addresses(places.lines, column));
  sgmf_blend_tile_args args{};
  args.channels = task_.classes;
  for (int axis = 0; axis < 3; ++axis) args.extent[axis] = inside[axis].size();
  args.logits = at<const float>(logits_.address) + first;
  args.logits_stride[0] = voxel_count(tile);
  args.logits_stride[1] = args.weights_stride[0] = tile[1] * tile[2];
  args.logits_stride[2] = args.weights_stride[1] = tile[2];
  args.weights = at<const float>(weights_.get()) + first;
  args.lines = at<float* const>(send(std::move(tables)));
  args.channel_stride = width_;
  stream_.wait_for(logits_.computed);
  LabelKernels::enqueue(task_.kernels.blend_tile, &args, at<int32_t>(not_finite_.get()),
                        stream_.get());
  stream_.record(logits_.used);
}

void DeviceLines::divide(const Places& places, const std::vector<float>& divisors) {
  const Current current(*task_.device);
  Tables tables;
  const std::size_t lines = tables.add(addresses(places.lines));
  const std::size_t values = tables.add(divisors);
  const Address base = send(std::move(tables));
  sgmf_divide_lines_args args{};
  args.channels = task_.classes;
  args.count = static_cast<int64_t>(places.lines.size());
  args.width = width_;
  args.divisors = at<const float>(base + values);
  args.lines = at<float* const>(base + lines);
  args.channel_stride = width_;
  LabelKernels::enqueue(task_.kernels.divide_lines, &args, stream_.get());
}

void DeviceLines::finish(const Places& places, const Box& target, const GridTaps& taps) {
  const Current current(*task_.device);
  const Triple size = extent(target);
  const int64_t plane_bytes = size[1] * size[2] * static_cast<int64_t>(sizeof(uint16_t));
  const int64_t planes = std::max<int64_t>(1, label_bytes / plane_bytes);
  for (int64_t begin = 0; begin < size[0]; begin += planes) {
    const Range some{begin, std::min(begin + planes, size[0])};
    label(places, {taps[0].part(some, 0), taps[1], taps[2]});
    wait();
    check_finite();
    task_.map.write({moved(some, target[0].begin), target[1], target[2]}, labels_.data());
  }
}

void DeviceLines::label(const Places& places, const GridTaps& taps) {
  labels_.resize(static_cast<std::size_t>(taps[0].count() * taps[1].count() * taps[2].count()));
  const std::size_t bytes = labels_.size() * sizeof(uint16_t);
  Tables tables;
  const std::size_t lines = tables.add(addresses(places.lines));
  const std::size_t regions = tables.add(task_.regions);
  std::array<std::array<std::size_t, 3>, 3> axes;
  for (int axis = 0; axis < 3; ++axis) {
    axes[axis] = {tables.add(taps[axis].low), tables.add(taps[axis].high),
                  tables.add(taps[axis].weight)};
  }
  const std::size_t labels = tables.bytes.size();
  const Address base = send(std::move(tables), bytes);
  sgmf_label_resample_args args{};
  args.lines = at<const float* const>(base + lines);
  args.channels = task_.classes;
  args.channel_stride = args.width = width_;
  args.depth = places.depth;
  args.height = places.height;
  for (int axis = 0; axis < 3; ++axis) {
    args.taps[axis] = {taps[axis].count(), at<const int64_t>(base + axes[axis][0]),
                       at<const int64_t>(base + axes[axis][1]),
                       at<const double>(base + axes[axis][2])};
  }
  args.regions = task_.regions.empty() ? nullptr : at<const uint16_t>(base + regions);
  args.labels = at<uint16_t>(base + labels);
  LabelKernels::enqueue(task_.kernels.label_resample, &args, stream_.get());
  stream_.copy_out(labels_.data(), base + labels, bytes);
  stream_.copy_out(&flag_, not_finite_.get(), sizeof(flag_));
}

void DeviceLines::check_finite() const {
  if (!flag_) return;
  throw Error(ErrorCode::backend,
              "logits on " + task_.device->facts().name +
                  " are NaN or infinite; run the fp32 variant, and check the scan's intensities if "
                  "it fails as well");
}

std::vector<Address> DeviceLines::addresses(const std::vector<int64_t>& lines,
                                            int64_t column) const {
  std::vector<Address> found;
  found.reserve(lines.size());
  for (const int64_t line : lines) {
    const int64_t first = line * task_.classes * width_ + column;
    found.push_back(lines_->get() + static_cast<Address>(first * float_bytes));
  }
  return found;
}

Address DeviceLines::send(Tables tables, std::size_t room) {
  const std::size_t bytes = tables.bytes.size() + room;
  if (scratch_bytes_ < bytes) {
    wait();
    scratch_.reset();  // before more is taken
    scratch_bytes_ = 0;
    scratch_ = std::make_unique<DeviceMemory>(task_.device, bytes);
    scratch_bytes_ = bytes;
  }
  send_to(scratch_->get(), std::move(tables.bytes));
  return scratch_->get();
}

void DeviceLines::send_to(Address target, std::vector<char> bytes) {
  sent_.push_back(std::move(bytes));
  stream_.copy_in(target, sent_.back().data(), sent_.back().size());
}

void DeviceLines::wait() {
  stream_.synchronize();
  sent_.clear();
}

}  // namespace sgmf::cuda
