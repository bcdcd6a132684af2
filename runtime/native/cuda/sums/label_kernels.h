// The functions of label_stream_cuda.h, from a library that is loaded at run time.
#pragma once

#include <string>

#include "cuda/label_stream_cuda.h"
#include "system/shared_library.h"

namespace sgmf::cuda {

class LabelKernels {
 public:
  // `path` is that of libsgmf_cuda. Throws BackendMissing: it is not there or not that.
  explicit LabelKernels(const std::string& path);

  // A function, and its name in the library.
  template <typename F>
  struct Kernel {
    const char* name;
    F call = nullptr;
  };

  // Enqueues work. Throws Error(backend): it was refused or not started.
  template <typename F, typename... Given>
  static void enqueue(const Kernel<F>& kernel, Given... given) {
    expect_none(kernel.name, kernel.call(given...));
  }

  Kernel<decltype(&sgmf_clear_lines_cuda)> clear_lines{"sgmf_clear_lines_cuda"};
  Kernel<decltype(&sgmf_blend_tile_cuda)> blend_tile{"sgmf_blend_tile_cuda"};
  Kernel<decltype(&sgmf_divide_lines_cuda)> divide_lines{"sgmf_divide_lines_cuda"};
  Kernel<decltype(&sgmf_label_resample_cuda)> label_resample{"sgmf_label_resample_cuda"};

 private:
  static void expect_none(const char* name, const char* complaint);
  template <typename F>
  void find(Kernel<F>& kernel) const;

  SharedLibrary library_;
};

}  // namespace sgmf::cuda
