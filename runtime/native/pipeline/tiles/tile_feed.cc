#include "pipeline/tiles/tile_feed.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/cpu_isa.h"
#include "pipeline/error.h"

namespace sgmf {
namespace {

std::optional<Enlargement> enlargement_of(const Triple& shape, const Triple& tile) {
  if (shape == tile) return std::nullopt;
  for (int axis = 0; axis < 3; ++axis) {
    if (shape[axis] < 1 || tile[axis] % shape[axis]) {
      throw Error(ErrorCode::argument,
                  "the extents of the network's logits do not divide its tile's");
    }
  }
  return Enlargement(shape, tile, *cpu_kernels().front());
}

std::vector<Box> without_repeats(const std::vector<Box>& boxes, const EqualTiles& equal) {
  std::vector<Box> kept;
  for (std::size_t tile = 0; tile < boxes.size(); ++tile) {
    if (!equal.repeat[tile]) kept.push_back(boxes[tile]);
  }
  return kept;
}

}  // namespace

int64_t TileNetwork::floats_held(int64_t channels, const Triple& tile) const {
  const int64_t batches = (network->overlap() ? 2 : 1) + (mirrored_axes.empty() ? 0 : 1);
  return network->tiles_at_once() * batches * (channels * voxel_count(tile) + logit_floats(tile));
}

TileFeed::TileFeed(const TileNetwork& network, const Image& image, const Box& place,
                   const std::vector<Box>& boxes, bool keeps_equal, Workspace& workspace)
    : network_(network),
      image_(image),
      place_(place),
      equal_(keeps_equal ? equal_tiles(image, place, boxes)
                         : EqualTiles{-1, std::vector<bool>(boxes.size(), false)}),
      boxes_(without_repeats(boxes, equal_)),
      tile_(extent(boxes_.front())),
      logits_shape_(network.network->logits_shape(tile_)),
      enlargement_(enlargement_of(logits_shape_, tile_)),
      batch_size_(network.network->tiles_at_once()),
      lends_(network.network->lends()),
      logit_floats_(network.logit_floats(tile_)) {
  const bool overlap = network_.network->overlap(), mirrors = !network_.mirrored_axes.empty();
  const int64_t batches = (overlap ? 2 : 1) + (mirrors ? 1 : 0);
  const int64_t tile_floats = batch_size_ * image.channels * voxel_count(tile_);
  const int64_t logit_floats = batch_size_ * logit_floats_;
  float* tiles = workspace.tiles.at_least(batches * tile_floats);
  // Lent logits of mirrored tiles are added up in memory of their own.
  const bool owns = !lends_ || mirrors;
  float* logits = owns ? workspace.logits.at_least(batches * logit_floats) : nullptr;
  const auto batch = [&](int64_t place) {
    Batch found;
    found.room = tiles + place * tile_floats;
    found.own = owns ? logits + place * logit_floats : nullptr;
    return found;
  };
  batches_[0] = batch(0);
  batches_[1] = batch(overlap ? 1 : 0);
  mirrored_ = batch(batches - 1);
  if (equal_.first >= 0) kept_ = workspace.kept.at_least(logit_floats_);
  if (overlap) worker_ = std::thread([this] { work(); });
}

TileFeed::~TileFeed() {
  if (!worker_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

const float* TileFeed::next() {
  const int64_t tile = next_++;
  if (equal_.repeat[tile]) return kept_;
  const float* logits = next_computed();
  if (tile == equal_.first) std::copy_n(logits, logit_floats_, kept_);
  return logits;
}

const float* TileFeed::next_computed() {
  const int64_t batch = next_run_ / batch_size_, place = next_run_ % batch_size_;
  if (place == 0) {
    if (!worker_.joinable()) {
      cut(batch);
      compute(batches_[batch % 2]);
    } else {
      if (batch == 0) start(0);
      start(batch + 1);
      wait_for(batch);
    }
  }
  ++next_run_;
  return batches_[batch % 2].logits + place * logit_floats_;
}

void TileFeed::cut(int64_t batch) {
  const int64_t first = batch * batch_size_;
  Batch& into = batches_[batch % 2];
  into.count = std::min(batch_size_, static_cast<int64_t>(boxes_.size()) - first);
  into.tiles = into.room;
  if (into.count == 1 && boxes_[first] == place_) {
    into.tiles = image_.values;
    return;
  }
  for (int64_t i = 0; i < into.count; ++i) {
    cut_tile(image_, place_, boxes_[first + i],
             into.room + i * image_.channels * voxel_count(tile_));
  }
}

void TileFeed::compute(Batch& batch) {
  batch.logits = run_network(batch.tiles, batch.count, batch.own);
  if (!network_.mirrored_axes.empty()) average(batch);
}

// Over the logits of all mirrored tiles and those that there are.
void TileFeed::average(Batch& batch) {
  const int64_t size = batch.count * logit_floats_;
  if (batch.logits != batch.own) std::copy_n(batch.logits, size, batch.own);
  batch.logits = batch.own;
  const std::vector<std::vector<int>> all = mirrorings(network_.mirrored_axes);
  for (std::size_t i = 1; i < all.size(); ++i) {
    mirror(batch.tiles, batch.count * image_.channels, tile_, all[i], mirrored_.room);
    const float* logits = run_network(mirrored_.room, batch.count, mirrored_.own);
    add_mirrored(logits, batch.count * network_.classes, logits_shape_, all[i], batch.own);
  }
  const float count = static_cast<float>(all.size());
  for (int64_t i = 0; i < size; ++i) batch.own[i] /= count;
}

const float* TileFeed::run_network(const float* tiles, int64_t count, float* own) {
  if (network_.cancelled && network_.cancelled()) {
    throw Error(ErrorCode::cancelled, "the prediction was cancelled");
  }
  const auto begin = std::chrono::steady_clock::now();
  const float* logits = own;
  if (lends_) {
    logits = network_.network->lend(tiles, count);
  } else {
    network_.network->run(tiles, count, own);
  }
  network_seconds_ +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return logits;
}

// Computes batches as they are started, until an error or the end of the feed.
void TileFeed::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopped_ || started_ > finished_; });
    if (stopped_) return;
    const int64_t batch = finished_;
    lock.unlock();
    std::exception_ptr error;
    try {
      compute(batches_[batch % 2]);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = error;
    if (!error) ++finished_;
    changed_.notify_all();
    if (error) return;
  }
}

// The buffers of the batch before the last are free by now: all of its tiles were used.
void TileFeed::start(int64_t batch) {
  if (batch * batch_size_ >= static_cast<int64_t>(boxes_.size())) return;
  cut(batch);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    started_ = batch + 1;
  }
  changed_.notify_all();
}

void TileFeed::wait_for(int64_t batch) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return finished_ > batch || error_; });
  if (finished_ <= batch) std::rethrow_exception(error_);
}

}  // namespace sgmf
