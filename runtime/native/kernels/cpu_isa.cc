#include "kernels/cpu_isa.h"

#include <cstring>

#if defined(SGMF_HAS_X86)
#include <cpuid.h>
#endif

namespace avx512 {
extern const sgmf::CpuKernels kernels;
}
namespace avx2 {
extern const sgmf::CpuKernels kernels;
}
namespace neon {
extern const sgmf::CpuKernels kernels;
}
namespace portable {
extern const sgmf::CpuKernels kernels;
}

namespace sgmf {
namespace {

#if defined(SGMF_HAS_X86)
// Read here because clang 14 does not know the name in __builtin_cpu_supports.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

std::vector<const CpuKernels*> find() {
  std::vector<const CpuKernels*> found;
#if defined(SGMF_HAS_X86)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) found.push_back(&avx512::kernels);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    found.push_back(&avx2::kernels);
  }
#endif
#if defined(SGMF_HAS_NEON)
  found.push_back(&neon::kernels);
#else
  found.push_back(&portable::kernels);
#endif
  return found;
}

}  // namespace

const std::vector<const CpuKernels*>& cpu_kernels() {
  static const std::vector<const CpuKernels*> kernels = find();
  return kernels;
}

const CpuKernels* find_kernels(const char* isa) {
  if (!isa) return cpu_kernels().front();
  for (const CpuKernels* kernels : cpu_kernels()) {
    if (!std::strcmp(kernels->name, isa)) return kernels;
  }
  return nullptr;
}

}  // namespace sgmf
