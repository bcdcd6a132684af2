/* Check of who made a package; see package/signature/check_signature.h. */
#ifndef SGMF_SIGNATURE_H_
#define SGMF_SIGNATURE_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Checks the bytes of manifest.json against `list`, those of manifest.sig or NULL, and the trusted
 * keys, among them those at the path `keys` or NULL. Returns 0 and writes to `said` the key's id, a
 * space and its name, or nothing where no key is trusted; 1 for a package that is refused, and
 * writes why; -1 without memory. `said` has room for `room` bytes including the NUL. */
SGMF_API int32_t sgmf_check_signature(const void* manifest, int64_t size, const void* list,
                                      int64_t list_size, const char* keys, int32_t required,
                                      char* said, int64_t room);

/* Checks the content of a trusted key's file, called `place` in messages. Returns as above, with
 * the key's id in `said`. */
SGMF_API int32_t sgmf_check_trusted_key(const void* content, int64_t size, const char* place,
                                        char* said, int64_t room);

/* Whether 64 bytes are the Ed25519 signature of a message by a public key of 32: 1 or 0. */
SGMF_API int32_t sgmf_has_signed(const void* key, const void* message, int64_t size,
                                 const void* signature);

#ifdef __cplusplus
}
#endif

#endif
