#include "kernels/interface/axis_resample.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/parallel.h"

namespace sgmf {
namespace {

using Args = sgmf_axis_resample_args;

// Lines along the axis that are computed together: as many sums as fit the registers of every
// processor, in vectors that every one has.
constexpr int lane_count = 16;
constexpr int64_t groups_per_task = 16;
typedef double Pair __attribute__((vector_size(16)));
constexpr int pair_count = lane_count / 2;

// Where the first elements of the lanes are; lanes beyond the last line repeat it.
struct Group {
  int lanes;
  int64_t source[lane_count];
  int64_t target[lane_count];
  double low[lane_count];
  double high[lane_count];
};

Group group_at(const Args& args, int64_t first) {
  Group group;
  const int64_t lines = args.outer * args.inner;
  group.lanes = static_cast<int>(std::min<int64_t>(lane_count, lines - first));
  for (int lane = 0; lane < lane_count; ++lane) {
    const int64_t line = first + std::min(lane, group.lanes - 1);
    const int64_t o = line / args.inner;
    const int64_t i = line % args.inner;
    group.source[lane] = o * args.length * args.inner + i;
    group.target[lane] = o * args.count * args.inner + i;
    if (args.low) {
      group.low[lane] = args.low[o];
      group.high[lane] = args.high[o];
    }
  }
  return group;
}

// Places increase, except where a lane repeats the last line.
bool are_neighbours(const Group& group, const int64_t* places) {
  return group.lanes == lane_count && places[lane_count - 1] - places[0] == lane_count - 1;
}

template <typename T>
void gather(const T* source, int64_t step, const Group& group, const std::vector<int64_t>& used,
            double* values) {
  const bool neighbours = are_neighbours(group, group.source);
  for (const int64_t column : used) {
    const T* row = source + column * step;
    double* out = values + column * lane_count;
    if (neighbours) {
      const T* first = row + group.source[0];
      for (int lane = 0; lane < lane_count; ++lane) out[lane] = first[lane];
    } else {
      for (int lane = 0; lane < lane_count; ++lane) out[lane] = row[group.source[lane]];
    }
  }
}

void weigh(const double* values, const int64_t* columns, const double* weights, int64_t count,
           double* sums) {
  Pair total[pair_count] = {};
  for (int64_t tap = 0; tap < count; ++tap) {
    const double* row = values + columns[tap] * lane_count;
    for (int pair = 0; pair < pair_count; ++pair) {
      Pair value;
      std::memcpy(&value, row + 2 * pair, sizeof(value));
      total[pair] += weights[tap] * value;
    }
  }
  std::memcpy(sums, total, sizeof(total));
}

template <typename T>
void scatter(const double* sums, const Group& group, T* row) {
  if (are_neighbours(group, group.target)) {
    T* first = row + group.target[0];
    for (int lane = 0; lane < lane_count; ++lane) first[lane] = static_cast<T>(sums[lane]);
  } else {
    for (int lane = 0; lane < group.lanes; ++lane) {
      row[group.target[lane]] = static_cast<T>(sums[lane]);
    }
  }
}

void clip(const Group& group, double* sums) {
  for (int lane = 0; lane < lane_count; ++lane) {
    sums[lane] = std::min(std::max(sums[lane], group.low[lane]), group.high[lane]);
  }
}

template <typename S, typename T>
void resample_group(const Args& args, const Group& group, const std::vector<int64_t>& used,
                    double* values) {
  gather(static_cast<const S*>(args.source), args.inner, group, used, values);
  double sums[lane_count];
  for (int64_t i = 0; i < args.count; ++i) {
    const int64_t start = args.starts[i];
    weigh(values, args.columns + start, args.weights + start, args.starts[i + 1] - start, sums);
    if (args.low) clip(group, sums);
    scatter(sums, group, static_cast<T*>(args.target) + i * args.inner);
  }
}

std::vector<int64_t> used_columns(const Args& args) {
  std::vector<int64_t> used(args.columns, args.columns + args.starts[args.count]);
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  return used;
}

template <typename S, typename T>
void axis_resample(const Args& args, int threads) {
  const std::vector<int64_t> used = used_columns(args);
  const int64_t lines = args.outer * args.inner;
  const int64_t lines_per_task = groups_per_task * lane_count;
  const int64_t tasks = (lines + lines_per_task - 1) / lines_per_task;
  own_threads(threads)(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    std::vector<double> values(args.length * lane_count);
    const int64_t begin = static_cast<int64_t>(task) * lines_per_task;
    const int64_t end = std::min(lines, begin + lines_per_task);
    for (int64_t first = begin; first < end; first += lane_count) {
      resample_group<S, T>(args, group_at(args, first), used, values.data());
    }
  });
}

const char* check(const Args& args) {
  if (args.outer < 0 || args.length < 0 || args.count < 0 || args.inner < 0) {
    return "a length is negative";
  }
  if (!args.source || !args.target || !args.starts) return "a pointer is NULL";
  if (!args.low != !args.high) return "low and high go together";
  if (args.starts[0] != 0) return "starts must begin with 0";
  for (int64_t i = 0; i < args.count; ++i) {
    if (args.starts[i + 1] < args.starts[i]) return "starts must not decrease";
  }
  if (args.starts[args.count] && !(args.columns && args.weights)) return "a pointer is NULL";
  for (int64_t tap = 0; tap < args.starts[args.count]; ++tap) {
    if (args.columns[tap] < 0 || args.columns[tap] >= args.length) {
      return "a column lies outside the source";
    }
  }
  return nullptr;
}

void dispatch(const Args& args, int threads) {
  if (args.source_is_double) {
    if (args.target_is_double) return axis_resample<double, double>(args, threads);
    return axis_resample<double, float>(args, threads);
  }
  if (args.target_is_double) return axis_resample<float, double>(args, threads);
  return axis_resample<float, float>(args, threads);
}

}  // namespace
}  // namespace sgmf

extern "C" const char* sgmf_axis_resample(const sgmf_axis_resample_args* args, int32_t threads) {
  if (!args) return "args may not be NULL";
  if (const char* error = sgmf::check(*args)) return error;
  try {
    sgmf::dispatch(*args, threads > 0 ? threads : sgmf::available_threads());
  } catch (...) {
    return sgmf::out_of_memory;
  }
  return nullptr;
}
