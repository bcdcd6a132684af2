/* A raw volume with a text header, as the examples read it:
 *
 *   type int16                       one of the names in raw_volume.c
 *   channels 1
 *   shape 36 50 30                   x, y, z; x is fastest, channels slowest
 *   affine 1 0 0 -18  0 1 0 -22  0 0 1 -40  0 0 0 1
 *   data scan.raw                    beside the header
 */
#ifndef RAW_VOLUME_H_
#define RAW_VOLUME_H_

#include <sgmf.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads header and voxels. Returns 0, or -1 after a message on stderr. The voxels are the
 * caller's, to be freed with raw_volume_free. */
int raw_volume_read(const char* header_path, sgmf_volume* volume);
void raw_volume_free(sgmf_volume* volume);

/* Bytes of one voxel; 0 for an unknown type. */
uint64_t raw_voxel_bytes(int32_t element_type);

/* Writes `size` bytes to a file. Returns 0, or -1 after a message on stderr. */
int raw_file_write(const char* path, const void* bytes, uint64_t size);

#ifdef __cplusplus
}
#endif

#endif
