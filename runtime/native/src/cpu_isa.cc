#include "cpu_isa.h"

namespace avx512 {
extern const sgmf::ScanKernel selective_scan_kernel;
}
namespace avx2 {
extern const sgmf::ScanKernel selective_scan_kernel;
}
namespace neon {
extern const sgmf::ScanKernel selective_scan_kernel;
}
namespace portable {
extern const sgmf::ScanKernel selective_scan_kernel;
}

namespace sgmf {
namespace {

std::vector<const ScanKernel*> find() {
  std::vector<const ScanKernel*> found;
#if defined(SGMF_HAS_X86)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) found.push_back(&avx512::selective_scan_kernel);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    found.push_back(&avx2::selective_scan_kernel);
  }
#endif
#if defined(SGMF_HAS_NEON)
  found.push_back(&neon::selective_scan_kernel);
#else
  found.push_back(&portable::selective_scan_kernel);
#endif
  return found;
}

}  // namespace

const std::vector<const ScanKernel*>& scan_kernels() {
  static const std::vector<const ScanKernel*> kernels = find();
  return kernels;
}

}  // namespace sgmf
