#include "kernels/interface/keep_largest.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

#include "kernels/parallel.h"

namespace sgmf {
namespace {

constexpr int64_t no_node = -1;

// Neighbouring voxels of a row that are all of the chosen labels, and the node of their component.
struct Run {
  int64_t begin;
  int64_t end;
  int64_t node;
};

// The runs of a plane, row by row.
struct PlaneRuns {
  std::vector<Run> runs;
  std::vector<int64_t> first;  // of each row, and the end

  explicit PlaneRuns(const std::array<int64_t, 3>& extent) {
    runs.reserve(static_cast<std::size_t>(most(extent)));
    first.reserve(static_cast<std::size_t>(extent[1] + 1));
  }
  static int64_t most(const std::array<int64_t, 3>& extent) {
    return extent[1] * ((extent[2] + 1) / 2);
  }
  void clear() {
    runs.clear();
    first.assign(1, 0);
  }
};

// The number of a rank among those that were added, the largest being of rank 1.
class Ranked {
 public:
  explicit Ranked(int64_t rank) : rank_(rank) {}

  void add(int64_t number) {
    largest_.push(number);
    if (static_cast<int64_t>(largest_.size()) > rank_) largest_.pop();
  }
  // 0 if fewer were added.
  int64_t found() const {
    return static_cast<int64_t>(largest_.size()) < rank_ ? 0 : largest_.top();
  }

 private:
  int64_t rank_;
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<int64_t>> largest_;
};

// Disjoint sets of voxels. A root holds minus their number, every other node its parent.
class VoxelSets {
 public:
  VoxelSets(const std::array<int64_t, 3>& extent, int connectivity) {
    nodes_.reserve(static_cast<std::size_t>(most(extent, connectivity)));
  }

  // A new node is of a run that touches no earlier one. In a block of 2 x 2 x 2 voxels, no more
  // can begin than there are corners of a cube that do not touch.
  static int64_t most(const std::array<int64_t, 3>& extent, int connectivity) {
    const int64_t blocks = ((extent[0] + 1) / 2) * ((extent[1] + 1) / 2) * ((extent[2] + 1) / 2);
    return blocks << (3 - connectivity);
  }

  int64_t add(int64_t voxels) {
    nodes_.push_back(-voxels);
    return static_cast<int64_t>(nodes_.size()) - 1;
  }
  void grow(int64_t node, int64_t voxels) { nodes_[root(node)] -= voxels; }
  int64_t voxels(int64_t node) { return -nodes_[root(node)]; }

  void unite(int64_t one, int64_t other) {
    one = root(one);
    other = root(other);
    if (one == other) return;
    if (nodes_[other] < nodes_[one]) std::swap(one, other);
    nodes_[one] += nodes_[other];
    nodes_[other] = one;
  }

  int64_t count() const { return static_cast<int64_t>(nodes_.size()); }
  bool is_root(int64_t node) const { return nodes_[node] < 0; }

  int64_t root(int64_t node) {
    while (nodes_[node] >= 0) {
      const int64_t parent = nodes_[node];
      if (nodes_[parent] >= 0) nodes_[node] = nodes_[parent];
      node = parent;
    }
    return node;
  }

 private:
  std::vector<int64_t> nodes_;
};

// Which components stay.
struct Rule {
  std::vector<uint8_t> chosen;  // by label
  int connectivity;
  int64_t components;
  bool equals_stay;
};

// Walks the runs twice: to join and count them, then to clear those of small components; and once
// between, where only some of equally large components stay. All walks meet the same runs in the
// same order, so the nodes need not be held with them.
template <typename T>
class LargestComponents {
 public:
  // `raster` is the distance of neighbours in the order that decides between equal components.
  LargestComponents(T* labels, std::array<int64_t, 3> extent, std::array<int64_t, 3> stride,
                    std::array<int64_t, 3> raster, Rule rule)
      : labels_(labels),
        extent_(extent),
        stride_(stride),
        raster_(raster),
        rule_(std::move(rule)),
        sets_(extent, rule_.connectivity),
        before_(extent),
        here_(extent) {}

  void keep() {
    walk([this](Run& run, int64_t, int64_t) {
      if (run.node == no_node) {
        run.node = sets_.add(run.end - run.begin);
      } else {
        sets_.grow(run.node, run.end - run.begin);
      }
    });
    Ranked sizes(rule_.components);
    for (int64_t node = 0; node < sets_.count(); ++node) {
      if (sets_.is_root(node)) sizes.add(sets_.voxels(node));
    }
    const int64_t least = sizes.found();
    const int64_t least_first = rule_.equals_stay ? 0 : least_first_of(least);
    walk_again([&](const Run& run, int64_t z, int64_t y) {
      const int64_t voxels = sets_.voxels(run.node);
      if (voxels > least) return;
      if (voxels == least && (least_first == 0 || first_[sets_.root(run.node)] >= least_first)) {
        return;
      }
      T* row = row_at(z, y);
      for (int64_t x = run.begin; x < run.end; ++x) row[x * stride_[2]] = 0;
    });
  }

 private:
  // Of components of this size that stay, the least place of a first voxel; 0 if all stay. Fills
  // `first_`.
  int64_t least_first_of(int64_t size) {
    int64_t larger = 0, equal = 0;
    for (int64_t node = 0; node < sets_.count(); ++node) {
      if (!sets_.is_root(node)) continue;
      larger += sets_.voxels(node) > size;
      equal += sets_.voxels(node) == size;
    }
    if (size == 0 || larger + equal <= rule_.components) return 0;
    first_.assign(static_cast<std::size_t>(sets_.count()), std::numeric_limits<int64_t>::max());
    walk_again([this](const Run& run, int64_t z, int64_t y) {
      int64_t& first = first_[sets_.root(run.node)];
      first = std::min(first, z * raster_[0] + y * raster_[1] + run.begin * raster_[2]);
    });
    Ranked places(rule_.components - larger);
    for (int64_t node = 0; node < sets_.count(); ++node) {
      if (sets_.is_root(node) && sets_.voxels(node) == size) places.add(first_[node]);
    }
    return places.found();
  }

  T* row_at(int64_t z, int64_t y) const { return labels_ + z * stride_[0] + y * stride_[1]; }

  // After a walk that made the nodes.
  template <typename Visit>
  void walk_again(const Visit& visit) {
    int64_t met = 0;
    walk([&](Run& run, int64_t z, int64_t y) {
      if (run.node == no_node) run.node = met++;
      visit(run, z, y);
    });
  }

  template <typename Visit>
  void walk(const Visit& visit) {
    before_.clear();
    before_.first.assign(static_cast<std::size_t>(extent_[1] + 1), 0);
    for (int64_t z = 0; z < extent_[0]; ++z) {
      here_.clear();
      for (int64_t y = 0; y < extent_[1]; ++y) {
        find_runs(row_at(z, y));
        for (int64_t near = std::max<int64_t>(y - 1, 0); near <= std::min(y + 1, extent_[1] - 1);
             ++near) {
          join(before_, near, near == y ? 1 : 2);
        }
        if (y > 0) join(here_, y - 1, 1);
        for (int64_t i = here_.first.back(); i < count(); ++i) visit(here_.runs[i], z, y);
        here_.first.push_back(count());
      }
      std::swap(before_, here_);
    }
  }

  int64_t count() const { return static_cast<int64_t>(here_.runs.size()); }

  void find_runs(const T* row) {
    for (int64_t x = 0; x < extent_[2];) {
      if (!rule_.chosen[row[x * stride_[2]]]) {
        ++x;
        continue;
      }
      const int64_t begin = x;
      while (x < extent_[2] && rule_.chosen[row[x * stride_[2]]]) ++x;
      here_.runs.push_back({begin, x, no_node});
    }
  }

  // Joins the newest row with an earlier one, which is `steps` along axes away.
  void join(const PlaneRuns& plane, int64_t row, int steps) {
    if (steps > rule_.connectivity) return;
    const int64_t gap = steps < rule_.connectivity ? 1 : 0;  // a further step along the row
    int64_t other = plane.first[row];
    const int64_t end = plane.first[row + 1];
    for (int64_t i = here_.first.back(); i < count(); ++i) {
      Run& run = here_.runs[i];
      while (other < end && plane.runs[other].end + gap <= run.begin) ++other;
      for (int64_t near = other; near < end && plane.runs[near].begin < run.end + gap; ++near) {
        if (run.node == no_node) {
          run.node = plane.runs[near].node;
        } else {
          sets_.unite(run.node, plane.runs[near].node);
        }
      }
    }
  }

  T* labels_;
  std::array<int64_t, 3> extent_, stride_, raster_;
  Rule rule_;
  VoxelSets sets_;
  std::vector<int64_t> first_;  // place of the first voxel, by root
  PlaneRuns before_, here_;
};

// Rows along the axis whose voxels are closest in memory. Components are the same in any order.
template <typename T>
void keep_largest(const sgmf_keep_largest_args& args) {
  std::array<int, 3> axes{0, 1, 2};
  std::stable_sort(axes.begin(), axes.end(), [&](int one, int other) {
    return std::abs(args.stride[one]) > std::abs(args.stride[other]);
  });
  const std::array<int64_t, 3> places{args.extent[1] * args.extent[2], args.extent[2], 1};
  std::array<int64_t, 3> extent{}, stride{}, raster{};
  for (std::size_t i = 0; i < 3; ++i) {
    extent[i] = args.extent[axes[i]];
    stride[i] = args.stride[axes[i]];
    raster[i] = places[axes[i]];
  }
  Rule rule{std::vector<uint8_t>(65536), args.connectivity, args.components, args.equals_stay != 0};
  for (int64_t i = 0; i < args.value_count; ++i) rule.chosen[args.values[i]] = 1;
  LargestComponents<T>(static_cast<T*>(args.labels), extent, stride, raster, std::move(rule))
      .keep();
}

}  // namespace
}  // namespace sgmf

extern "C" int64_t sgmf_keep_largest_bytes(const int64_t extent[3], int32_t connectivity,
                                           int32_t equals_stay) {
  std::array<int64_t, 3> axes{extent[0], extent[1], extent[2]};
  std::sort(axes.begin(), axes.end());  // rows of any axis: the two largest make the most runs
  const int64_t runs = 2 * sgmf::PlaneRuns::most({1, axes[1] + 1, axes[2]});
  return runs * static_cast<int64_t>(sizeof(sgmf::Run)) +
         sgmf::VoxelSets::most(axes, connectivity) * (equals_stay ? 1 : 2) *
             static_cast<int64_t>(sizeof(int64_t));
}

extern "C" const char* sgmf_keep_largest(const sgmf_keep_largest_args* args, int32_t) {
  if (!args || !args->labels || (!args->values && args->value_count > 0)) {
    return "a pointer is NULL";
  }
  if (std::min({args->extent[0], args->extent[1], args->extent[2]}) < 1) {
    return "an extent is below 1";
  }
  if (args->connectivity < 1 || args->connectivity > 3 || args->components < 1) {
    return "expected a connectivity of 1 to 3, and at least one component";
  }
  try {
    if (args->is_uint16) {
      sgmf::keep_largest<uint16_t>(*args);
    } else {
      sgmf::keep_largest<uint8_t>(*args);
    }
  } catch (...) {
    return sgmf::out_of_memory;
  }
  return nullptr;
}
