/* A sparse linear operator along one axis of an array, such as a spline resize has for each.
 *
 * Sums are taken in double, in the order of the weights, without fused products: the result is
 * that of SciPy's product of a sparse matrix and a dense one, bit for bit.
 */
#ifndef SGMF_AXIS_RESAMPLE_H_
#define SGMF_AXIS_RESAMPLE_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every pointer is borrowed for the call. Arrays are dense and do not overlap. */
typedef struct sgmf_axis_resample_args {
  int32_t source_is_double; /* 0: float32 */
  int32_t target_is_double; /* 0: float32 */
  int64_t outer;
  int64_t length; /* of the axis in `source` */
  int64_t count;  /* of the axis in `target` */
  int64_t inner;
  const void* source;     /* (outer, length, inner) */
  void* target;           /* (outer, count, inner) */
  const int64_t* starts;  /* (count + 1) target i takes weights starts[i] to starts[i + 1] */
  const int64_t* columns; /* index of `source` for each weight */
  const double* weights;
  const double* low;  /* (outer) least value of the results, or NULL */
  const double* high; /* (outer) largest value of the results, or NULL with `low` */
} sgmf_axis_resample_args;

/* Runs on up to `threads` threads of its own; 0 takes one for each available processor.
 * Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_axis_resample(const sgmf_axis_resample_args* args, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
