// Interface of networks for the pipeline.
#pragma once

#include <cstdint>

#include "pipeline/spec.h"

namespace sgmf {

class LogitDevice;

class Network {
 public:
  virtual ~Network() = default;

  // Turns tiles (count, channels, *tile) into logits (count, classes, *logits_shape), both dense,
  // float32 and the pipeline's for the duration of the call. `logits` comes uninitialised; NaN and
  // infinity in the result are refused by its users. `count` is at most tiles_at_once(). Calls
  // never overlap, but with overlap() they come from another thread than segment() was called on.
  // May throw anything, preferably Error(backend): segment() ends with it.
  virtual void run(const float* tiles, int64_t count, float* logits) = 0;

  // The grid of the logits that run() and lend() give: the tile's, or a coarser one whose extents
  // divide the tile's. Then they are made larger, as by the op Upsample, where they are used.
  virtual Triple logits_shape(const Triple& tile) const { return tile; }

  // Most tiles of a call.
  virtual int64_t tiles_at_once() const { return 1; }

  // Whether run() leaves the processor idle: the next tiles are then cut and the last logits
  // blended meanwhile, on another thread and with one more batch of both in memory.
  virtual bool overlap() const { return false; }

  // Whether logits come in memory of the network, by lend() instead of run().
  virtual bool lends() const { return false; }

  // As run(), but returns where the logits are. They stay there until the next call, or with
  // overlap() until the next but one.
  virtual const float* lend(const float* /*tiles*/, int64_t /*count*/) { return nullptr; }

  // The device on which its logits can be summed and labelled as well; nullptr for none.
  virtual LogitDevice* device() { return nullptr; }
};

}  // namespace sgmf
