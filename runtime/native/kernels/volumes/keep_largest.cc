#include "kernels/interface/keep_largest.h"

#include <algorithm>
#include <array>
#include <cstdlib>
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

// Disjoint sets of voxels. A root holds minus their number, every other node its parent.
class VoxelSets {
 public:
  explicit VoxelSets(const std::array<int64_t, 3>& extent) {
    nodes_.reserve(static_cast<std::size_t>(most(extent)));
  }

  // A new node is of a run that touches no earlier one, so that no two begin in the same block of
  // 2 x 2 x 2 voxels.
  static int64_t most(const std::array<int64_t, 3>& extent) {
    return ((extent[0] + 1) / 2) * ((extent[1] + 1) / 2) * ((extent[2] + 1) / 2);
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

  int64_t largest() const {
    const auto least = std::min_element(nodes_.begin(), nodes_.end());
    return least == nodes_.end() ? 0 : -*least;
  }

 private:
  int64_t root(int64_t node) {
    while (nodes_[node] >= 0) {
      const int64_t parent = nodes_[node];
      if (nodes_[parent] >= 0) nodes_[node] = nodes_[parent];
      node = parent;
    }
    return node;
  }

  std::vector<int64_t> nodes_;
};

// Walks the runs twice: to join and count them, then to clear those of small components. Both walks
// meet the same runs in the same order, so the nodes need not be held with them.
template <typename T>
class LargestComponent {
 public:
  LargestComponent(T* labels, std::array<int64_t, 3> extent, std::array<int64_t, 3> stride,
                   std::vector<uint8_t> chosen)
      : labels_(labels),
        extent_(extent),
        stride_(stride),
        chosen_(std::move(chosen)),
        sets_(extent),
        before_(extent),
        here_(extent) {}

  void keep() {
    walk([this](Run& run, T*) {
      if (run.node == no_node) {
        run.node = sets_.add(run.end - run.begin);
      } else {
        sets_.grow(run.node, run.end - run.begin);
      }
    });
    const int64_t largest = sets_.largest();
    int64_t met = 0;
    walk([this, largest, &met](Run& run, T* row) {
      if (run.node == no_node) run.node = met++;
      if (sets_.voxels(run.node) == largest) return;
      for (int64_t x = run.begin; x < run.end; ++x) row[x * stride_[2]] = 0;
    });
  }

 private:
  template <typename Visit>
  void walk(const Visit& visit) {
    before_.clear();
    before_.first.assign(static_cast<std::size_t>(extent_[1] + 1), 0);
    for (int64_t z = 0; z < extent_[0]; ++z) {
      here_.clear();
      for (int64_t y = 0; y < extent_[1]; ++y) {
        T* row = labels_ + z * stride_[0] + y * stride_[1];
        find_runs(row);
        for (int64_t near = std::max<int64_t>(y - 1, 0); near <= std::min(y + 1, extent_[1] - 1);
             ++near) {
          join(before_, near);
        }
        if (y > 0) join(here_, y - 1);
        for (int64_t i = here_.first.back(); i < count(); ++i) visit(here_.runs[i], row);
        here_.first.push_back(count());
      }
      std::swap(before_, here_);
    }
  }

  int64_t count() const { return static_cast<int64_t>(here_.runs.size()); }

  void find_runs(const T* row) {
    for (int64_t x = 0; x < extent_[2];) {
      if (!chosen_[row[x * stride_[2]]]) {
        ++x;
        continue;
      }
      const int64_t begin = x;
      while (x < extent_[2] && chosen_[row[x * stride_[2]]]) ++x;
      here_.runs.push_back({begin, x, no_node});
    }
  }

  // Joins the newest row with an earlier one.
  void join(const PlaneRuns& plane, int64_t row) {
    int64_t other = plane.first[row];
    const int64_t end = plane.first[row + 1];
    for (int64_t i = here_.first.back(); i < count(); ++i) {
      Run& run = here_.runs[i];
      while (other < end && plane.runs[other].end < run.begin) ++other;
      for (int64_t near = other; near < end && plane.runs[near].begin <= run.end; ++near) {
        if (run.node == no_node) {
          run.node = plane.runs[near].node;
        } else {
          sets_.unite(run.node, plane.runs[near].node);
        }
      }
    }
  }

  T* labels_;
  std::array<int64_t, 3> extent_, stride_;
  std::vector<uint8_t> chosen_;  // by label
  VoxelSets sets_;
  PlaneRuns before_, here_;
};

// Rows along the axis whose voxels are closest in memory. Components are the same in any order.
template <typename T>
void keep_largest(const sgmf_keep_largest_args& args) {
  std::array<int, 3> axes{0, 1, 2};
  std::stable_sort(axes.begin(), axes.end(), [&](int one, int other) {
    return std::abs(args.stride[one]) > std::abs(args.stride[other]);
  });
  std::array<int64_t, 3> extent{}, stride{};
  for (std::size_t i = 0; i < 3; ++i) {
    extent[i] = args.extent[axes[i]];
    stride[i] = args.stride[axes[i]];
  }
  std::vector<uint8_t> chosen(65536);
  for (int64_t i = 0; i < args.value_count; ++i) chosen[args.values[i]] = 1;
  LargestComponent<T>(static_cast<T*>(args.labels), extent, stride, std::move(chosen)).keep();
}

}  // namespace
}  // namespace sgmf

extern "C" int64_t sgmf_keep_largest_bytes(const int64_t extent[3]) {
  std::array<int64_t, 3> axes{extent[0], extent[1], extent[2]};
  std::sort(axes.begin(), axes.end());  // rows of any axis: the two largest make the most runs
  const int64_t runs = 2 * sgmf::PlaneRuns::most({1, axes[1] + 1, axes[2]});
  return runs * static_cast<int64_t>(sizeof(sgmf::Run)) +
         sgmf::VoxelSets::most(axes) * static_cast<int64_t>(sizeof(int64_t));
}

extern "C" const char* sgmf_keep_largest(const sgmf_keep_largest_args* args, int32_t) {
  if (!args || !args->labels || (!args->values && args->value_count > 0)) {
    return "a pointer is NULL";
  }
  if (std::min({args->extent[0], args->extent[1], args->extent[2]}) < 1) {
    return "an extent is below 1";
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
