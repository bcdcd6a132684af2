// The caller's voxels and labels as the pipeline takes them.
#pragma once

#include "pipeline/geometry/volume.h"
#include "sgmf.h"

namespace sgmf::embedding {

// Throws StatusError: an unknown type, an extent below one, a stride below zero, a pointer that
// is NULL or not aligned, or voxels beyond the end of the memory.
Volume to_volume(const sgmf_volume& volume);

// Labels on the grid of `volume`; `largest` is the largest label.
LabelBuffer to_label_buffer(const sgmf_labels& labels, const sgmf_volume& volume, uint16_t largest);

// The same if only shape and types matter: neither memory nor its size are checked.
Volume to_volume_without_memory(const sgmf_volume& volume);
LabelBuffer to_label_buffer_without_memory(const sgmf_labels& labels, const sgmf_volume& volume,
                                           uint16_t largest);

}  // namespace sgmf::embedding
