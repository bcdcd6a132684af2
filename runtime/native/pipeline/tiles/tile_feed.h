// Tiles through the network in batches, with the work around it alongside if that pays.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "kernels/token_ops/enlargement.h"
#include "pipeline/geometry/box.h"
#include "pipeline/tiles/equal_tiles.h"
#include "pipeline/tiles/network.h"
#include "pipeline/tiles/tiling.h"
#include "pipeline/workspace.h"

namespace sgmf {

// A network, and how to run it.
struct TileNetwork {
  Network* network = nullptr;
  int64_t classes = 0;
  std::vector<int> mirrored_axes;   // over which logits are averaged
  std::function<bool()> cancelled;  // asked before each call of the network; may be empty

  // Numbers that exist at once, of tiles with so many channels.
  int64_t floats_held(int64_t channels, const Triple& tile) const;
  // Numbers of the logits of one tile.
  int64_t logit_floats(const Triple& tile) const {
    return classes * voxel_count(network->logits_shape(tile));
  }
};

// The logits of one tile after the other. With Network::overlap() one batch runs, on a thread of
// its own, while the tiles of another are used.
class TileFeed {
 public:
  // `image` is borrowed and lies at `place`, in the coordinates of the tiles `boxes`. With
  // `keeps_equal` the logits of equal tiles are kept in memory of their own, and computed once.
  TileFeed(const TileNetwork& network, const Image& image, const Box& place,
           const std::vector<Box>& boxes, bool keeps_equal, Workspace& workspace);
  ~TileFeed();
  TileFeed(const TileFeed&) = delete;
  TileFeed& operator=(const TileFeed&) = delete;

  // Logits (classes, *logits_shape) of the next tile, there until the next call. Throws what the
  // network throws.
  const float* next();

  // Makes logits as large as the tile; nullptr if they are.
  const Enlargement* enlargement() const { return enlargement_ ? &*enlargement_ : nullptr; }

  // Inside the network.
  double network_seconds() const { return network_seconds_; }

 private:
  struct Batch {
    float* room = nullptr;         // memory for tiles
    const float* tiles = nullptr;  // there, or the image itself
    float* own = nullptr;          // memory for logits
    const float* logits = nullptr;
    int64_t count = 0;
  };

  const float* next_computed();
  void cut(int64_t batch);
  void compute(Batch& batch);
  void average(Batch& batch);
  const float* run_network(const float* tiles, int64_t count, float* own);
  void work();
  void start(int64_t batch);
  void wait_for(int64_t batch);

  const TileNetwork network_;
  const Image image_;
  const Box place_;
  const EqualTiles equal_;
  const std::vector<Box> boxes_;  // those that run
  const Triple tile_;
  const Triple logits_shape_;
  const std::optional<Enlargement> enlargement_;
  const int64_t batch_size_;
  const bool lends_;
  const int64_t logit_floats_;  // of a tile
  float* kept_ = nullptr;       // logits of equal tiles
  Batch batches_[2];            // that of an index modulo 2
  Batch mirrored_;
  int64_t next_ = 0;  // tile
  int64_t next_run_ = 0;
  double network_seconds_ = 0;

  // Between the thread that runs the network and the one that asks for logits.
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t started_ = 0;  // batches
  int64_t finished_ = 0;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::thread worker_;
};

}  // namespace sgmf
