// Marks functions whose loops the compiler vectorises by itself: it makes a version for each
// instruction set and the loader picks the one for the processor. Not under ThreadSanitizer, which
// is not ready when the loader picks, nor with Clang before 14, which makes no versions.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && __has_attribute(target_clones) && \
    !defined(__SANITIZE_THREAD__)
#define SGMF_VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SGMF_VECTORISED
#endif
