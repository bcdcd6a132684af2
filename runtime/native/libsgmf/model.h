// Content of a handle: an open package with its networks, and the state of the current call.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "libsgmf/stage.h"
#include "libsgmf/status.h"
#include "pipeline/segment.h"
#include "sgmf.h"

namespace sgmf::embedding {

class Model {
 public:
  // Throws the exceptions that current_status converts.
  explicit Model(const sgmf_open_options& options);

  const Manifest& manifest() const { return stages_.back()->manifest(); }
  sgmf_info info() const;
  const sgmf_statistics& statistics() const { return statistics_; }

  void run(const sgmf_volume& volume, const sgmf_labels& labels, const sgmf_run_options& options);
  void warm_up();
  // From any thread.
  void cancel() { cancelled_ = true; }
  int64_t least_budget(const sgmf_volume& volume, const sgmf_labels& labels);

 private:
  void open(const sgmf_open_options& options);
  SegmentOptions segment_options() const;
  void check_channels(const sgmf_volume& volume) const;
  // Refuses a budget that does not hold a single tile.
  void check_tile(Stage& stage) const;
  // Frees the network of a cascade, of which one is open at a time.
  void end_turn(Stage& stage);

  int threads_;
  int64_t budget_bytes_;
  bool mirror_;
  std::string variant_;
  std::string backend_;
  std::string signer_;                          // name of the key; empty where none is trusted
  std::vector<std::unique_ptr<Stage>> stages_;  // two of a cascade; the package's own is the last
  bool one_at_a_time_ = false;
  Workspace workspace_;
  sgmf_statistics statistics_{};
  std::atomic<bool> cancelled_{false};
};

}  // namespace sgmf::embedding

// A handle: its present caller, its last message, and whether it can still be used.
struct sgmf_model {
  explicit sgmf_model(const sgmf_open_options& options) : content(options) {}
  sgmf::embedding::Model content;
  sgmf::embedding::Message message;
  std::atomic<bool> busy{false};
  bool defective = false;
};
