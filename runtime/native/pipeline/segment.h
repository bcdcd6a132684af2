// Segmentation of a scan: the whole pipeline around a network.
#pragma once

#include <cstdint>
#include <functional>

#include "pipeline/error.h"
#include "pipeline/geometry/volume.h"
#include "pipeline/spec.h"
#include "pipeline/tiles/network.h"
#include "pipeline/workspace.h"

namespace sgmf {

struct SegmentOptions {
  // For what grows with the scan and the classes: the scan, its label map, its image on the
  // network's grid, sums of logits, tiles and their logits. The network's own memory comes on top.
  int64_t budget_bytes = 0;
  int threads = 0;      // of the work around the network; 0 takes every processor
  bool mirror = false;  // average over the mirrored axes that the package allows
  // Called on the calling thread with the tiles done and their number: first with none done, then
  // after each tile, or batch of tiles. Returning false stops with Error(cancelled).
  std::function<bool(int64_t done, int64_t count)> progress;
  // Asked before each call of the network, on the thread that calls it, and between the steps
  // of preprocessing; true stops with Error(cancelled).
  std::function<bool()> cancelled;
};

struct SegmentStatistics {
  double preprocess_seconds = 0;
  double network_seconds = 0;  // inside Network::run
  double total_seconds = 0;
  int64_t tiles = 0;       // through the network; mirrored ones count once
  bool on_device = false;  // whether logits were summed there, within network_seconds
  int64_t peak_bytes = 0;  // largest use of the budget
};

// Segments `volume` into `labels`. The result is the same whatever the budget, the threads and the
// order in which axes are stored.
//
// With `spec.previous_stage`, the network is the second one of a cascade, and `labels` holds the
// first one's label map.
//
// `workspace` keeps its memory for the next volume; one volume at a time may use it. After an
// error `labels` holds anything, and the workspace may be used again.
//
// Throws Error, std::bad_alloc, and what the network or a callback throws.
SegmentStatistics segment(const Volume& volume, const Spec& spec, Network& network,
                          const LabelBuffer& labels, const SegmentOptions& options,
                          Workspace& workspace);

// Throws BudgetError, and what a scan's place or emptiness refuses, as segment() would; the network
// is not run.
void check_budget(const Volume& volume, const Spec& spec, Network& network,
                  const LabelBuffer& labels, const SegmentOptions& options);

// The least budget, in bytes, with which segment() can segment such a volume if nothing of it is
// cropped away. Voxels are not read and may be null; the network is not run.
int64_t least_budget_bytes(const Volume& volume, const Spec& spec, Network& network,
                           const LabelBuffer& labels, const SegmentOptions& options);

}  // namespace sgmf
