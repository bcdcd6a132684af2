// The shape of a step in a scanner's reconstruction: frames arrive one after the other, the volume
// completes, labels go out before a deadline, or it is reported that they do not.
//
//   reconstruction_step PACKAGE.sgmf HEADER.txt LABELS.raw DEADLINE_S
//
// A thread plays the scanner and copies slices of a raw volume into the frame buffer. Meanwhile the
// model is opened and warmed up. The exit status is 0 with labels, 20 after a missed deadline.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "model.hpp"
#include "raw_volume.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int missed = 20;
constexpr auto frame_interval = std::chrono::milliseconds(2);

// Slices of one channel, the slowest axis of the volume; filled by the scanner's thread.
class FrameBuffer {
 public:
  explicit FrameBuffer(const sgmf_volume& layout)
      : frames_(static_cast<std::size_t>(layout.channels * layout.shape[2])),
        frame_bytes_(layout.size_bytes / frames_),
        memory_(layout.size_bytes) {}

  void put(const unsigned char* frame) {
    std::memcpy(memory_.data() + arrived_ * frame_bytes_, frame, frame_bytes_);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (++arrived_ == frames_) completed_at_ = Clock::now();
    changed_.notify_one();
  }

  // When the last frame arrived.
  Clock::time_point wait_for_volume() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return arrived_ == frames_; });
    return completed_at_;
  }

  std::size_t frames() const { return frames_; }
  std::size_t frame_bytes() const { return frame_bytes_; }
  const void* voxels() const { return memory_.data(); }

 private:
  std::size_t frames_;
  std::size_t frame_bytes_;
  std::vector<unsigned char> memory_;  // from operator new: aligned for every type of voxel
  std::size_t arrived_ = 0;
  Clock::time_point completed_at_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

void play_scanner(const sgmf_volume& recorded, FrameBuffer& buffer) {
  const auto* bytes = static_cast<const unsigned char*>(recorded.voxels);
  for (std::size_t i = 0; i < buffer.frames(); ++i) {
    std::this_thread::sleep_for(frame_interval);
    buffer.put(bytes + i * buffer.frame_bytes());
  }
}

double seconds(Clock::duration span) { return std::chrono::duration<double>(span).count(); }

// Waits for the volume, segments it, writes the labels. Returns the exit status.
int reconstruct(Model& model, const sgmf_volume& layout, FrameBuffer& buffer, const char* output,
                double deadline_s) {
  const bool small = model.info().label_type == SGMF_UINT8;
  const std::size_t voxels =
      static_cast<std::size_t>(layout.shape[0] * layout.shape[1] * layout.shape[2]);
  std::vector<uint16_t> memory(small ? (voxels + 1) / 2 : voxels);
  auto labels = sized<sgmf_labels>();
  labels.element_type = model.info().label_type;
  labels.labels = memory.data();
  labels.size_bytes = voxels * (small ? 1 : 2);
  sgmf_volume volume = layout;
  volume.voxels = buffer.voxels();

  const Clock::time_point completed = buffer.wait_for_volume();
  const auto elapsed = [&] { return seconds(Clock::now() - completed); };
  const bool done = model.run(volume, labels, [&] { return elapsed() < deadline_s; });
  if (!done || elapsed() > deadline_s) {
    std::printf("deadline of %.3f s missed, given up after %.3f s: no labels\n", deadline_s,
                elapsed());
    return missed;
  }
  std::printf("labels %.3f s after the last frame, %.3f s before the deadline; network %.3f s\n",
              elapsed(), deadline_s - elapsed(), model.statistics().network_seconds);
  return raw_file_write(output, labels.labels, labels.size_bytes) == 0 ? 0 : 1;
}

int run(char** arguments) {
  sgmf_volume recorded;
  if (raw_volume_read(arguments[2], &recorded) != 0) return SGMF_INVALID_ARGUMENT;
  FrameBuffer buffer(recorded);
  std::thread scanner(play_scanner, std::cref(recorded), std::ref(buffer));
  int status = 1;
  try {
    Model model(arguments[1]);
    model.warm_up();
    status = reconstruct(model, recorded, buffer, arguments[3], std::atof(arguments[4]));
  } catch (const ModelError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    status = error.status;
  }
  scanner.join();
  raw_volume_free(&recorded);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr,
                 "usage: reconstruction_step PACKAGE.sgmf HEADER.txt LABELS.raw DEADLINE_S\n");
    return SGMF_INVALID_ARGUMENT;
  }
  return run(argv);
}
