/* Number of processors that this process may use. */
#ifndef SGMF_PROCESSORS_H_
#define SGMF_PROCESSORS_H_

#include <stdint.h>

#include "kernels/interface/selective_scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Cores that this process may run on, capped by its control group's quota; at least one. Two
 * threads of one core share its arithmetic units, which a network keeps busy alone; so siblings
 * count once where Linux tells them apart. `system_root` is the folder of the kernel's sys/;
 * NULL: "". */
SGMF_API int32_t sgmf_available_processors(const char* system_root);

#ifdef __cplusplus
}
#endif

#endif
