/* The selective scan of selective_scan.h on an NVIDIA GPU, as C functions.
 *
 * The definition, the layout and the arguments are those of the CPU; every pointer in the
 * arguments is one to device memory. Nothing here allocates or waits.
 */
#ifndef SGMF_SELECTIVE_SCAN_CUDA_H_
#define SGMF_SELECTIVE_SCAN_CUDA_H_

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of device scratch that a scan of these sizes needs; 0 if it needs none or the sizes are
 * refused. The pointers in the arguments do not matter. `multiprocessors` is the device's number of
 * those, 1 or more; it decides how the sequence is cut, never whether the result is right. */
SGMF_API size_t sgmf_selective_scan_cuda_workspace(const sgmf_selective_scan_args* args,
                                                   int32_t multiprocessors);

/* Enqueues the scan on `cuda_stream` (a cudaStream_t, NULL: the default stream) of the current
 * device and returns at once. `workspace` is device memory, aligned to 16 bytes, that belongs to
 * the scan until it is done; its content does not matter, and it may be NULL where none is
 * needed. With less than the query above names, the sequence is cut into fewer pieces. May be
 * captured in a CUDA graph. Returns NULL, or a static text that says what is wrong. */
SGMF_API const char* sgmf_selective_scan_cuda(const sgmf_selective_scan_args* args, void* workspace,
                                              size_t workspace_bytes, int32_t multiprocessors,
                                              void* cuda_stream);

/* The number of devices that the driver offers. Returns NULL, or a static text, such as that
 * there is no driver. */
SGMF_API const char* sgmf_cuda_device_count(int32_t* count);

/* The number of multiprocessors of the current device. Returns NULL, or a static text. */
SGMF_API const char* sgmf_cuda_multiprocessors(int32_t* multiprocessors);

#ifdef __cplusplus
}
#endif

#endif
