/* The gradient of the selective scan on the CPU, as a C function.
 *
 * With g the gradient of y, every input of sgmf_selective_scan gets its own. The states are not
 * kept by the forward scan: those before every short stretch of tokens are found anew, and those
 * within it once more from there, so that memory grows with the length by a fraction of u's.
 */
#ifndef SGMF_SELECTIVE_SCAN_GRADIENT_H_
#define SGMF_SELECTIVE_SCAN_GRADIENT_H_

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every pointer is borrowed for the call; none may overlap another. Gradients have the shape of
 * what they belong to, and are written, not added to. */
typedef struct sgmf_selective_scan_gradient_args {
  sgmf_selective_scan_args scan; /* float32; its y is not read */
  const float* grad_y;           /* (batch, length, channels) */
  float* grad_u;
  float* grad_delta;
  float* grad_A;
  float* grad_B;
  float* grad_C;
  float* grad_D; /* NULL where D is, as the two below */
  float* grad_z;
  float* grad_delta_bias;
} sgmf_selective_scan_gradient_args;

/* Threads, `isa` and the result as for sgmf_selective_scan. For one number of threads the result
 * is the same in every run: sums over tokens and channels are added in a fixed order. */
SGMF_API const char* sgmf_selective_scan_gradient(const sgmf_selective_scan_gradient_args* args,
                                                  int32_t threads, const char* isa);

#ifdef __cplusplus
}
#endif

#endif
