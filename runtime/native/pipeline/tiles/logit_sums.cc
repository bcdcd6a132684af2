#include "pipeline/tiles/logit_sums.h"

#include <algorithm>
#include <stdexcept>

namespace sgmf {

LogitSums::LogitSums(LogitLines& lines, const Box& region, int64_t tile_depth, int64_t capacity)
    : lines_(lines),
      region_(region),
      ring_(tile_depth + 1) {
  for (int64_t line = 0; line < capacity; ++line) free_.push_back(line);
  places_.assign(static_cast<std::size_t>(ring_ * region[1].size()), -1);
}

void LogitSums::add(const Box& box) {
  if (!meet(box, region_)) return;
  const Box both = shared(box, region_);
  Box inside;
  for (int axis = 0; axis < 3; ++axis) inside[axis] = moved(both[axis], -box[axis].begin);
  lines_.add(taken(box[0], both[1]), both[2].begin - region_[2].begin, inside);
}

Places LogitSums::finish(const Strip& strip, const std::vector<float>& weight_sums) {
  if (strip.planes.size() > 0 && strip.rows.size() > 0) {
    lines_.divide(places(strip.planes, strip.rows), weight_sums);
  }
  return places(with_plane_before(strip.planes), with_row_before(strip.rows));
}

void LogitSums::release(const Strip& strip) {
  const bool is_last = strip.rows.end == region_[1].end;
  const Range rows{with_row_before(strip.rows).begin,
                   is_last ? strip.rows.end : strip.rows.end - 1};
  const Range planes{with_plane_before(strip.planes).begin, strip.planes.end - 1};
  for (int64_t plane = planes.begin; plane < planes.end; ++plane) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      free_.push_back(place(plane, row));
      place(plane, row) = -1;
    }
  }
}

int64_t& LogitSums::place(int64_t plane, int64_t row) {
  return places_[plane % ring_ * region_[1].size() + row - region_[1].begin];
}

Places LogitSums::places(const Range& planes, const Range& rows) {
  Places found{std::max<int64_t>(0, planes.size()), std::max<int64_t>(0, rows.size()), {}};
  for (int64_t plane = planes.begin; plane < planes.end; ++plane) {
    for (int64_t row = rows.begin; row < rows.end; ++row) found.lines.push_back(place(plane, row));
  }
  return found;
}

// Places of lines, those without any having been given empty ones.
Places LogitSums::taken(const Range& planes, const Range& rows) {
  std::vector<int64_t> empty;
  for (int64_t plane = planes.begin; plane < planes.end; ++plane) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      int64_t& line = place(plane, row);
      if (line >= 0) continue;
      if (free_.empty())
        throw std::logic_error("more lines of logits are in use than were planned");
      line = free_.back();
      free_.pop_back();
      empty.push_back(line);
    }
  }
  if (!empty.empty()) lines_.clear(empty);
  return places(planes, rows);
}

Range LogitSums::with_plane_before(const Range& planes) const {
  return {std::max(planes.begin - 1, region_[0].begin), planes.end};
}

Range LogitSums::with_row_before(const Range& rows) const {
  return {std::max(rows.begin - 1, region_[1].begin), rows.end};
}

}  // namespace sgmf
