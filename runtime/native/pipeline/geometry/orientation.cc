#include "pipeline/geometry/orientation.h"

#include <algorithm>
#include <cmath>

namespace sgmf {
namespace {

using Matrix = std::array<std::array<double, 3>, 3>;

// Directions of the axes, one in each column, of unit length.
Matrix directions(const Affine& affine) {
  Matrix unit;
  for (int axis = 0; axis < 3; ++axis) {
    double square = 0;
    for (int row = 0; row < 3; ++row) square += affine[row][axis] * affine[row][axis];
    for (int row = 0; row < 3; ++row) unit[row][axis] = affine[row][axis] / std::sqrt(square);
  }
  return unit;
}

Matrix inverse_transposed(const Matrix& m) {
  Matrix cofactors;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      const int a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
      cofactors[i][j] = m[a][c] * m[b][d] - m[a][d] * m[b][c];
    }
  }
  const double determinant =
      m[0][0] * cofactors[0][0] + m[0][1] * cofactors[0][1] + m[0][2] * cofactors[0][2];
  for (auto& row : cofactors) {
    for (double& number : row) number /= determinant;
  }
  return cofactors;
}

// The orthogonal factor of the polar decomposition by Newton's iteration, which converges for
// every matrix that is not singular. Source: N. J. Higham, "Computing the polar decomposition -
// with applications", SIAM J. Sci. Stat. Comput. 7, 1160-1174 (1986).
Matrix nearest_rotation(Matrix m) {
  for (int step = 0; step < 100; ++step) {
    const Matrix other = inverse_transposed(m);
    double change = 0;
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        const double mean = (m[i][j] + other[i][j]) / 2;
        change = std::max(change, std::abs(mean - m[i][j]));
        m[i][j] = mean;
      }
    }
    if (change < 1e-15) break;
  }
  return m;
}

struct Direction {
  int world = 0;
  bool positive = true;
};

// The world axis that each stored axis follows. The clearest match is taken first.
std::array<Direction, 3> world_directions(const Affine& affine) {
  Matrix rotation = nearest_rotation(directions(affine));
  const auto largest = [&](int axis) {
    double most = 0;
    for (int row = 0; row < 3; ++row) most = std::max(most, std::abs(rotation[row][axis]));
    return most;
  };
  std::array<double, 3> clearness{largest(0), largest(1), largest(2)};
  std::array<int, 3> order{0, 1, 2};
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return clearness[a] > clearness[b]; });
  std::array<Direction, 3> found;
  for (const int axis : order) {
    int world = 0;
    for (int row = 1; row < 3; ++row) {
      if (std::abs(rotation[row][axis]) > std::abs(rotation[world][axis])) world = row;
    }
    found[axis] = {world, !(rotation[world][axis] < 0)};
    rotation[world] = {};
  }
  return found;
}

}  // namespace

Reorientation Reorientation::then_permute(const std::array<int, 3>& order) const {
  Reorientation result;
  for (int i = 0; i < 3; ++i) {
    result.axes[i] = axes[order[i]];
    result.reverse[i] = reverse[order[i]];
  }
  return result;
}

Reorientation orient_to(const Affine& affine, const std::string& codes) {
  const std::array<Direction, 3> found = world_directions(affine);
  Reorientation result;
  for (int i = 0; i < 3; ++i) {
    const std::size_t letter = std::string("LRPAIS").find(codes[i]);
    const int world = static_cast<int>(letter / 2);
    for (int axis = 0; axis < 3; ++axis) {
      if (found[axis].world != world) continue;
      result.axes[i] = axis;
      result.reverse[i] = found[axis].positive != (letter % 2 == 1);
    }
  }
  return result;
}

Reorientation network_axes(const Affine& affine, const Preprocessing& spec) {
  const Reorientation oriented =
      spec.orientation.empty() ? Reorientation{} : orient_to(affine, spec.orientation);
  return oriented.then_permute({2, 1, 0}).then_permute(spec.transpose_forward);
}

Affine reordered(const Affine& affine, const Triple& stored_shape, const Reorientation& by,
                 const Box& box) {
  Affine result = affine;
  for (int i = 0; i < 3; ++i) {
    const int axis = by.axes[i];
    const int64_t first = by.reverse[i] ? stored_shape[axis] - 1 - box[i].begin : box[i].begin;
    for (int row = 0; row < 3; ++row) {
      result[row][i] = by.reverse[i] ? -affine[row][axis] : affine[row][axis];
      result[row][3] += affine[row][axis] * static_cast<double>(first);
    }
  }
  return result;
}

Layout::Layout(const Triple& stored_shape, const Triple& stored_strides, const Reorientation& by)
    : shape(reordered(stored_shape, by)),
      strides(reordered(stored_strides, by)) {
  for (int i = 0; i < 3; ++i) {
    if (!by.reverse[i]) continue;
    first += (shape[i] - 1) * strides[i];
    strides[i] = -strides[i];
  }
}

}  // namespace sgmf
