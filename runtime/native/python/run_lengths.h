/* Images that DICOM's RLE coding compressed: a byte plane for each byte of a number, the most
 * significant first, each packed by PackBits. */
#ifndef SGMF_RUN_LENGTHS_H_
#define SGMF_RUN_LENGTHS_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Decodes `size` bytes of `data`, of anyone's making, to `count` little-endian numbers of `width`
 * bytes. Bytes that follow a whole plane are passed over. Returns NULL, or a static text that says
 * what is wrong; `out` is then undefined. */
SGMF_API const char* sgmf_decode_run_lengths(const void* data, int64_t size, int64_t count,
                                             int32_t width, uint8_t* out);

#ifdef __cplusplus
}
#endif

#endif
