/* Check that a network holds all of its data itself; see onnxruntime/self_contained.h. */
#ifndef SGMF_SELF_CONTAINED_H_
#define SGMF_SELF_CONTAINED_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Returns 0 for a serialised ONNX model that holds all of its data; 1 for anything else, and writes
 * the reason to `reason`, which has room for `room` bytes including the NUL; -1 without memory. */
SGMF_API int32_t sgmf_reason_to_refuse(const void* model, int64_t size, char* reason, int64_t room);

#ifdef __cplusplus
}
#endif

#endif
