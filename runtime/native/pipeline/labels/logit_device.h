// A device on which a network leaves its logits, and on which they are summed and labelled.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/labels/host_lines.h"
#include "pipeline/labels/logit_lines.h"
#include "pipeline/tiles/tiling.h"

namespace sgmf {

// The tiles of an image in the order in which they run.
struct ImageTiles {
  Image image;                      // borrowed
  Box place;                        // of the image, in the coordinates of `boxes`
  std::vector<Box> boxes;           // at least one
  std::function<bool()> cancelled;  // asked before each call of the network; may be empty
};

class LogitDevice {
 public:
  virtual ~LogitDevice() = default;

  virtual std::string name() const = 0;
  virtual int64_t free_bytes() const = 0;
  // Whether its memory is the processor's as well.
  virtual bool is_integrated() const = 0;
  // Most tiles of a call of the network.
  virtual int64_t tiles_at_once() const = 0;
  // Of its memory, for sums of logits in so many lines of a width at once, but for tables and very
  // large planes.
  virtual int64_t sums_bytes(const Triple& tile, int64_t classes, int64_t lines,
                             int64_t width) const = 0;

  // Lines on the device. `weights` are those of the voxels of a tile, `regions` as of Output;
  // labels go to `map`. All are borrowed. Throws Error(backend), as do the lines: the device
  // failed, or some logits were NaN or infinite.
  virtual std::unique_ptr<LogitLines> lines(ImageTiles tiles, const std::vector<float>& weights,
                                            int64_t classes, const std::vector<uint16_t>& regions,
                                            LabelMap& map) = 0;
};

}  // namespace sgmf
