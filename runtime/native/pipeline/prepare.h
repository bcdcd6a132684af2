// Preparation of a scan: the network's grid and intensities.
//
// Order of operations: orient, transpose, crop, normalise, resample. nnU-Net normalises before it
// resamples, since interpolation would blur the border of the nonzero mask; where a specification
// says so, as for MONAI, resampling comes first. The network's axes
// count depth, height, width: the stored axes in reverse, (z, y, x), then `transpose_forward`, as
// in nnU-Net v2.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "pipeline/geometry/box.h"
#include "pipeline/geometry/channel_view.h"
#include "pipeline/geometry/orientation.h"
#include "pipeline/geometry/volume.h"
#include "pipeline/spec.h"

namespace sgmf {

// The network's grid and the way back from it. All but `reorientation` along the network's axes.
struct NetworkGrid {
  Reorientation reorientation;  // from stored axes
  Triple uncropped_shape{};     // of the scan
  Box box{};                    // part of that which is kept
  Spacing scan_spacing_mm{};
  Spacing spacing_mm{};  // of the image
  Triple shape{};        // of the image
  bool centred = false;  // the centres of both grids coincide, whatever the specification aligns

  Triple cropped_shape() const { return extent(box); }

  // Resampling of a specification, as it is on this grid.
  Resampling own(Resampling resampling) const {
    if (centred) resampling.alignment = Alignment::centres;
    return resampling;
  }
};

// The grid for a scan of which nothing is cropped; voxels are not read.
NetworkGrid whole_grid(const Volume& volume, const Preprocessing& spec);

// The grid for a scan. Throws Error(input) for another number of channels than the specification's,
// or where a scan to be cropped is zero everywhere.
NetworkGrid network_grid(const Volume& volume, const Preprocessing& spec);

// Channels of the scan inside the grid's box, along the network's axes.
std::vector<ChannelView> cropped_channels(const Volume& volume, const NetworkGrid& grid);

// Fills `image` (channels, *grid.shape), C order, with normalised intensities. Beside it, memory
// holds a few planes, and a mask where a normalisation needs it. `cancelled` is asked before each
// channel. In a cascade's second network `labels` is the first one's label map in the grid's box,
// otherwise null: as in nnU-Net, a mask holds its foreground too. Throws Error: input for
// intensities that do not suit the normalisation or are not finite, cancelled.
void fill_image(const Volume& volume, const Preprocessing& spec, const NetworkGrid& grid,
                const ChannelView* labels, int threads, const std::function<bool()>& cancelled,
                float* image);

}  // namespace sgmf
