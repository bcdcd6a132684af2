// Marks functions whose loops the compiler vectorises by itself: it makes a version for each
// instruction set and the loader picks the one for the processor. Not under ThreadSanitizer, which
// is not ready when the loader picks.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__) && !defined(__SANITIZE_THREAD__)
#define SGMF_VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SGMF_VECTORISED
#endif
