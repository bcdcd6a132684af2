#include "cuda/sums/label_kernels.h"

#include "pipeline/error.h"
#include "system/backend_missing.h"

namespace sgmf::cuda {
namespace {

LibrarySearch search(const std::string& path) {
  LibrarySearch search;
  search.what = "library of CUDA kernels";
  search.given = path;
  search.entry = "sgmf_blend_tile_cuda";
  search.remedy = "Install segmaformer, or libsgmf, where nvcc is on the path";
  return search;
}

}  // namespace

LabelKernels::LabelKernels(const std::string& path) : library_(search(path)) {
  find(clear_lines);
  find(blend_tile);
  find(divide_lines);
  find(label_resample);
}

template <typename F>
void LabelKernels::find(Kernel<F>& kernel) const {
  kernel.call = library_.function<F>(kernel.name);
  if (kernel.call) return;
  throw BackendMissing(std::string("the library of CUDA kernels has no ") + kernel.name +
                       "; install both libraries of one release");
}

void LabelKernels::expect_none(const char* name, const char* complaint) {
  if (complaint) throw Error(ErrorCode::backend, std::string(name) + " failed: " + complaint);
}

}  // namespace sgmf::cuda
