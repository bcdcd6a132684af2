// Sums of logits in memory of the processor, and their use.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/geometry/orientation.h"
#include "pipeline/geometry/volume.h"
#include "pipeline/labels/logit_lines.h"
#include "pipeline/tiles/tile_feed.h"
#include "pipeline/workspace.h"

namespace sgmf {

// Finished logits in lines of a memory, and the places of some voxels of the target between them.
// Borrowed.
struct FinishedLogits {
  const float* memory;
  int64_t line_stride;     // elements from a line to the next one
  int64_t channel_stride;  // and from a channel of a line to the next one
  int64_t channels;
  int64_t width;
  const Places& places;
  const Box& target;
  const GridTaps& taps;

  // Where the first channel's row begins at each (depth, height).
  std::vector<const float*> rows() const;
};

class LogitSink {
 public:
  virtual ~LogitSink() = default;
  virtual void take(const FinishedLogits& logits) = 0;
  // Whether each voxel is taken by itself where the target lies so: take() then refuses NaN and
  // infinity, and may be called for parts, from several threads at once.
  virtual bool is_pointwise(const GridTaps& /*taps*/) const { return false; }
};

// Lines in a workspace, of tiles from a feed.
class HostLines : public LogitLines {
 public:
  // `weights` are those of the voxels of a tile; they and all others are borrowed.
  HostLines(TileFeed& feed, const Triple& tile, const std::vector<float>& weights,
            const Output& output, int threads, LogitSink& sink, Workspace& workspace);

  void begin(int64_t capacity, int64_t width) override;
  void clear(const std::vector<int64_t>& lines) override;
  void next_tile() override;
  void add(const Places& places, int64_t column, const Box& inside) override;
  void divide(const Places& places, const std::vector<float>& divisors) override;
  void finish(const Places& places, const Box& target, const GridTaps& taps) override;

 private:
  std::vector<float*> rows(const Places& places, int64_t column) const;
  void add_enlarged(const Enlargement& enlargement, const std::vector<float*>& lines,
                    const Box& inside) const;

  TileFeed& feed_;
  const Triple tile_;
  const std::vector<float>& weights_;
  const Output& output_;
  const int64_t classes_;
  const int threads_;
  LogitSink& sink_;
  FloatBuffer& memory_;
  float* sums_ = nullptr;
  int64_t width_ = 0;
  const float* logits_ = nullptr;  // of the present tile
};

// The caller's label map along the network's axes.
class LabelMap {
 public:
  // `stored_shape` is that of the scan, `box` the part of it that labels are written to.
  LabelMap(const LabelBuffer& labels, const Triple& stored_shape, const Reorientation& by,
           const Box& box, int threads);

  // Makes every label outside the box zero.
  void clear_outside();
  // Writes labels (C order) of a part of the box.
  void write(const Box& part, const uint16_t* values);

 private:
  char* at(int64_t z, int64_t y, int64_t x) const;

  const LabelBuffer labels_;
  const Layout layout_;
  const Box box_;
  const int threads_;
};

// Labels from finished logits into a label map.
class LabelSink : public LogitSink {
 public:
  // `regions` as of Output.
  LabelSink(LabelMap& map, const std::vector<uint16_t>& regions, int threads)
      : map_(map),
        regions_(regions),
        threads_(threads) {}

  // Labels on the grid of the logits come without interpolation.
  void take(const FinishedLogits& logits) override;
  bool is_pointwise(const GridTaps& taps) const override { return on_grid(taps); }

  // Memory for labels that are computed at once, of a grid of that shape.
  static int64_t scratch_bytes(const Triple& target);

 private:
  static bool on_grid(const GridTaps& taps);
  void take_on_grid(const FinishedLogits& logits);
  void interpolate(const FinishedLogits& logits);

  LabelMap& map_;
  const std::vector<uint16_t>& regions_;
  const int threads_;
  std::vector<uint16_t> values_;
};

// Finished logits of a grid onto itself, all of them: (channels, *shape).
class LogitArray : public LogitSink {
 public:
  LogitArray(float* logits, const Triple& shape) : logits_(logits), shape_(shape) {}

  void take(const FinishedLogits& logits) override;

 private:
  float* logits_;
  const Triple shape_;
};

}  // namespace sgmf
