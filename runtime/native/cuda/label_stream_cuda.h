/* Sums of weighted tiles and their labels on an NVIDIA GPU: blend_tile.h and label_resample.h.
 *
 * Arguments are those of the CPU, every pointer in them one to device memory, and so are the
 * results, bit for bit: products are rounded before they are added. Each function enqueues its
 * work on `cuda_stream` (a cudaStream_t, NULL: the default stream) of the current device and
 * returns at once; nothing here allocates or waits. What pointers lead to cannot be checked.
 * Returns NULL, or a static text that says what is wrong.
 */
#ifndef SGMF_LABEL_STREAM_CUDA_H_
#define SGMF_LABEL_STREAM_CUDA_H_

#include "kernels/interface/blend_tile.h"
#include "kernels/interface/label_resample.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sets `size` floats of each of `count` lines to zero. */
SGMF_API const char* sgmf_clear_lines_cuda(float* const* lines, int64_t count, int64_t size,
                                           void* cuda_stream);

/* Writes 1 to `not_finite`, in device memory, if any logit is NaN or infinite; else leaves it. */
SGMF_API const char* sgmf_blend_tile_cuda(const sgmf_blend_tile_args* args, int32_t* not_finite,
                                          void* cuda_stream);

SGMF_API const char* sgmf_divide_lines_cuda(const sgmf_divide_lines_args* args, void* cuda_stream);

SGMF_API const char* sgmf_label_resample_cuda(const sgmf_label_resample_args* args,
                                              void* cuda_stream);

#ifdef __cplusplus
}
#endif

#endif
