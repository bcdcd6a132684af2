#include "pipeline/sampling/normalize.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "kernels/parallel.h"
#include "pipeline/error.h"

namespace sgmf {
namespace {

constexpr double least_divisor = 1e-8;

// Voxels that a statistic counts.
struct Counted {
  const uint8_t* mask = nullptr;  // null: everywhere
  bool nonzero = false;           // alone
};

// Calls f(plane index, voxels, count) for every plane across depth, in float32, of those counted.
template <typename F>
void for_each_plane(const ChannelView& channel, const Counted& counted, int threads, F f) {
  const int64_t size = channel.shape[1] * channel.shape[2];
  // Several at once: neighbours in memory may lie across depth.
  const int64_t together = std::max<int64_t>(
      1, std::min<int64_t>({16, (int64_t{1} << 21) / size, channel.shape[0] / (4 * threads)}));
  const int64_t tasks = (channel.shape[0] + together - 1) / together;
  own_threads(threads)(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    const int64_t begin = static_cast<int64_t>(task) * together;
    const int64_t end = std::min(begin + together, channel.shape[0]);
    std::vector<float> planes(static_cast<std::size_t>((end - begin) * size));
    channel.read({Range{begin, end}, {0, channel.shape[1]}, {0, channel.shape[2]}}, planes.data());
    for (int64_t z = begin; z < end; ++z) {
      float* plane = planes.data() + (z - begin) * size;
      int64_t count = size;
      if (counted.mask) {
        count = 0;
        for (int64_t i = 0; i < size; ++i) {
          if (counted.mask[z * size + i]) plane[count++] = plane[i];
        }
      }
      if (counted.nonzero) count = std::remove(plane, plane + count, 0.0f) - plane;
      f(z, plane, count);
    }
  });
}

constexpr int lanes = 8;

// A sum whose order does not depend on the processor.
template <typename F>
double lane_sum(const float* values, int64_t count, F f) {
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += f(values[i + lane]);
  }
  for (int lane = 0; i < count; ++i, ++lane) sums[lane] += f(values[i]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// With the running error of each addition: a million planes lose nothing.
double compensated_sum(const std::vector<double>& values) {
  double sum = 0, lost = 0;
  for (const double value : values) {
    const double next = sum + value;
    lost += std::abs(sum) >= std::abs(value) ? (sum - next) + value : (value - next) + sum;
    sum = next;
  }
  return sum + lost;
}

struct Moments {
  double mean = 0;
  double deviation = 0;
};

// Mean and population standard deviation.
Moments moments(const ChannelView& channel, const Counted& counted, int threads) {
  std::vector<double> sums(static_cast<std::size_t>(channel.shape[0]));
  std::vector<int64_t> counts(sums.size());
  for_each_plane(channel, counted, threads, [&](int64_t z, const float* values, int64_t count) {
    sums[z] = lane_sum(values, count, [](float value) { return static_cast<double>(value); });
    counts[z] = count;
  });
  int64_t count = 0;
  for (const int64_t some : counts) count += some;
  if (!count) return {};
  const double mean = compensated_sum(sums) / static_cast<double>(count);
  for_each_plane(channel, counted, threads, [&](int64_t z, const float* values, int64_t some) {
    sums[z] =
        lane_sum(values, some, [mean](float value) { return (value - mean) * (value - mean); });
  });
  return {mean, std::sqrt(compensated_sum(sums) / static_cast<double>(count))};
}

struct Extremes {
  float low;
  float high;
};

// Of each plane across depth.
std::vector<Extremes> extremes(const ChannelView& channel, int threads) {
  std::vector<Extremes> found(static_cast<std::size_t>(channel.shape[0]));
  for_each_plane(channel, {}, threads, [&](int64_t z, const float* values, int64_t count) {
    const auto [low, high] = std::minmax_element(values, values + count);
    found[z] = {*low, *high};
  });
  return found;
}

Extremes of_all(const std::vector<Extremes>& planes) {
  Extremes all = planes.front();
  for (const Extremes& plane : planes) {
    all = {std::min(all.low, plane.low), std::max(all.high, plane.high)};
  }
  return all;
}

float divisor_of(double deviation) {
  return static_cast<float>(std::max(deviation, least_divisor));
}

void check_colours(const Extremes& found) {
  if (found.low >= 0 && found.high <= 255) return;
  char text[240];
  std::snprintf(text, sizeof(text),
                "intensities range from %g to %g; the model expects colour channels from 0 to 255. "
                "Check that this is the kind of scan that it was trained on",
                static_cast<double>(found.low), static_cast<double>(found.high));
  throw Error(ErrorCode::input, text);
}

}  // namespace

NormalizedChannel::NormalizedChannel(const ChannelView& channel, const Normalization& spec,
                                     const uint8_t* mask, int threads)
    : channel_(channel),
      mask_(nullptr) {
  switch (spec.scheme) {
    case NormalizationScheme::zscore: {
      if (spec.use_mask && !mask) {
        throw Error(ErrorCode::argument,
                    "this z-score is taken inside a mask; give the mask of nonzero voxels");
      }
      mask_ = spec.use_mask ? mask : nullptr;
      const Moments found = moments(channel, {mask_, false}, threads);
      subtracted_ = {static_cast<float>(found.mean)};
      divisor_ = {divisor_of(found.deviation)};
      return;
    }
    case NormalizationScheme::zscore_nonzero: {
      nonzero_ = true;
      const Moments found = moments(channel, {nullptr, true}, threads);
      subtracted_ = {static_cast<float>(found.mean)};
      divisor_ = {divisor_of(found.deviation)};
      return;
    }
    case NormalizationScheme::ct:
    case NormalizationScheme::clip:
      clipped_ = true;
      lower_ = static_cast<float>(spec.lower);
      upper_ = static_cast<float>(spec.upper);
      subtracted_ = {static_cast<float>(spec.mean)};
      divisor_ = {divisor_of(spec.std)};
      return;
    case NormalizationScheme::none: unchanged_ = true; return;
    case NormalizationScheme::rescale01: {
      const Extremes found = of_all(extremes(channel, threads));
      subtracted_ = {found.low};
      divisor_ = {divisor_of(found.high - found.low)};
      return;
    }
    case NormalizationScheme::rescale01_slices:
      // A slice of one value becomes 0.
      for (const Extremes& plane : extremes(channel, threads)) {
        subtracted_.push_back(plane.low);
        divisor_.push_back(plane.high > plane.low ? plane.high - plane.low : 1.0f);
      }
      return;
    case NormalizationScheme::rgb01:
      check_colours(of_all(extremes(channel, threads)));
      subtracted_ = {0.0f};
      divisor_ = {255.0f};
      return;
  }
  throw Error(ErrorCode::argument, "the normalisation scheme is unknown");
}

void NormalizedChannel::read(const Box& box, float* out) const {
  channel_.read(box, out);
  rescale(box, out);
}

void NormalizedChannel::rescale(const Box& box, float* values) const {
  if (unchanged_) return;
  if (mask_) return scale_inside_mask(box, values);
  if (nonzero_) return scale_nonzero(values, voxel_count(extent(box)));
  scale(box, values);
}

void NormalizedChannel::scale_nonzero(float* values, int64_t count) const {
  const float subtracted = subtracted_.front(), divisor = divisor_.front();
  for (int64_t i = 0; i < count; ++i) {
    values[i] = values[i] != 0 ? (values[i] - subtracted) / divisor : values[i];
  }
}

void NormalizedChannel::scale(const Box& box, float* values) const {
  const int64_t size = box[1].size() * box[2].size();
  for (int64_t z = box[0].begin; z < box[0].end; ++z, values += size) {
    const std::size_t plane = subtracted_.size() > 1 ? static_cast<std::size_t>(z) : 0;
    const float subtracted = subtracted_[plane], divisor = divisor_[plane];
    if (clipped_) {
      for (int64_t i = 0; i < size; ++i) {
        values[i] = values[i] < lower_ ? lower_ : (values[i] > upper_ ? upper_ : values[i]);
      }
    }
    for (int64_t i = 0; i < size; ++i) values[i] = (values[i] - subtracted) / divisor;
  }
}

void NormalizedChannel::scale_inside_mask(const Box& box, float* values) const {
  const float subtracted = subtracted_.front(), divisor = divisor_.front();
  for (int64_t z = box[0].begin; z < box[0].end; ++z) {
    for (int64_t y = box[1].begin; y < box[1].end; ++y, values += box[2].size()) {
      const uint8_t* inside =
          mask_ + (z * channel_.shape[1] + y) * channel_.shape[2] + box[2].begin;
      for (int64_t x = 0; x < box[2].size(); ++x) {
        if (inside[x]) values[x] = (values[x] - subtracted) / divisor;
      }
    }
  }
}

void normalize_in_place(float* values, const Triple& shape, const Normalization& normalization,
                        int threads) {
  const int64_t plane = shape[1] * shape[2];
  const ChannelView view{
      reinterpret_cast<const char*>(values), ElementType::float32, shape, {plane, shape[2], 1}};
  const NormalizedChannel normalized(view, normalization, nullptr, threads);
  own_threads(worthwhile_threads(threads, shape[0] * plane))(
      static_cast<std::size_t>(shape[0]), [&](std::size_t z) {
        Box box = whole(shape);
        box[0] = {static_cast<int64_t>(z), static_cast<int64_t>(z) + 1};
        normalized.rescale(box, values + box[0].begin * plane);
      });
}

}  // namespace sgmf
