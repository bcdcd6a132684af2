/* The selective scan of Mamba-1 on the CPU, as a C function.
 *
 *   d[t] = delta[t] + delta_bias, then softplus where asked for
 *   h[t] = exp(d[t] * A) * h[t-1] + d[t] * u[t] * B[t]        h[-1] = 0
 *   y[t] = sum over states of C[t] * h[t]  +  D * u[t]        times SiLU(z[t])
 *
 * Arrays are dense and token-major. State, accumulation and all functions are
 * float32 whatever the element type. Source of the definition: A. Gu and T. Dao,
 * arXiv 2312.00752.
 */
#ifndef SGMF_SELECTIVE_SCAN_H_
#define SGMF_SELECTIVE_SCAN_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SGMF_API __declspec(dllexport)
#else
#define SGMF_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SGMF_SCAN_MAX_STATES 256

enum sgmf_element_type { SGMF_FLOAT32 = 0, SGMF_FLOAT16 = 1, SGMF_BFLOAT16 = 2 };

/* Every pointer is borrowed for the call. No alignment beyond that of the element. */
typedef struct sgmf_selective_scan_args {
  int32_t element_type;   /* of u, delta, z, B, C and y */
  int32_t delta_softplus; /* 0 or 1 */
  int32_t reverse;        /* 1: the sequence runs from its end */
  int64_t batch;
  int64_t length;
  int64_t channels;
  int64_t states;          /* 1 to SGMF_SCAN_MAX_STATES */
  const void* u;           /* (batch, length, channels) */
  const void* delta;       /* (batch, length, channels) */
  const float* A;          /* (channels, states), negative for a stable scan */
  const void* B;           /* (batch, length, states) */
  const void* C;           /* (batch, length, states) */
  const float* D;          /* (channels) or NULL */
  const void* z;           /* (batch, length, channels) or NULL */
  const float* delta_bias; /* (channels) or NULL */
  void* y;                 /* (batch, length, channels), may not overlap an input */
} sgmf_selective_scan_args;

/* Runs on up to `threads` threads of its own; 0 takes one for each available processor.
 * `isa` names the instruction set to use, NULL the best that this processor has.
 * Returns NULL, or a static text that says which argument is wrong. */
SGMF_API const char* sgmf_selective_scan(const sgmf_selective_scan_args* args, int32_t threads,
                                         const char* isa);

/* Comma-separated names that this library and this processor can run, best first:
 * of "avx512", "avx2", "neon" and "portable". Static storage. */
SGMF_API const char* sgmf_cpu_isas(void);

#ifdef __cplusplus
}
#endif

#endif
