/* A network without the upsampling at its end; see onnxruntime/session/coarse_model.h. */
#ifndef SGMF_COARSE_MODEL_H_
#define SGMF_COARSE_MODEL_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the shorter model to `shorter`, which has room for `size` bytes or is NULL, and the scales
 * from its logits to those of `model`. Returns its size; 0 if there is none, -1 without memory. */
SGMF_API int64_t sgmf_without_last_upsampling(const void* model, int64_t size, void* shorter,
                                              int64_t scales[3]);

#ifdef __cplusplus
}
#endif

#endif
