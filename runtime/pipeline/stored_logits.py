"""Logits of a whole scan on the network's own grid, read as probabilities a slab at a time.

The network's grid is mostly coarser than the scan's, so all logits on it take a fraction of the
memory that maps of every label on the scan's grid would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.logit_lines import AxisTaps, LogitLines, Logits
from segmaformer.runtime.pipeline.preprocessing import Preprocessed
from segmaformer.runtime.pipeline.probabilities import outside_crop, resample_probabilities
from segmaformer.runtime.spec import Output


def stored_bytes(output: Output, grid: Preprocessed) -> int:
    """Return the memory that logits on the network's grid take, in bytes."""
    return 4 * output.channels * math.prod(grid.image.shape[1:])


@dataclass(frozen=True, eq=False)
class StoredLogits:
    """All logits of a scan, and the way to the scan's grid.

    Attributes
    ----------
    logits
        Shape (K, D, H, W), float32, on the network's grid; probabilities if `output` says that
        these are interpolated.
    grid
        Grid of the logits and of the scan; its image is not read.
    output
        Meaning of the logits.
    taps
        Interpolation along each axis of the cropped scan.
    """

    logits: Logits = field(repr=False)
    grid: Preprocessed
    output: Output
    taps: Sequence[AxisTaps] = field(repr=False)

    def probabilities(self, axis: int, begin: int, end: int) -> npt.NDArray[np.float32]:
        """Compute probabilities of all channels in a slab of the scan.

        Parameters
        ----------
        axis
            Axis of the stored scan, 0 to 2, across which the slab lies.
        begin, end
            First voxel of the slab along it, and the end.

        Returns
        -------
        ndarray
            Shape (K, X, Y, Z) in the scan's storage order, but for `axis`, float32.
        """
        turn, box = self.grid.reorientation, self.grid.box
        own, shape = turn.axes.index(axis), list(self.grid.uncropped_shape)
        if turn.reverse[own]:
            begin, end = shape[own] - end, shape[own] - begin
        shape[own] = end - begin
        channels = range(self.output.channels)
        slab = np.empty((len(channels), *shape), np.float32)
        for channel in channels:
            slab[channel] = outside_crop(self.output, channel)
        inside = [slice(side.start, side.stop) for side in box]
        first, last = max(begin, box[own].start), min(end, box[own].stop)
        if first < last:
            inside[own] = slice(first - begin, last - begin)
            part = slice(first - box[own].start, last - box[own].start)
            slab[(slice(None), *inside)] = self._resampled(own, part)
        return turn.undo(slab)

    def _resampled(self, axis: int, part: slice) -> npt.NDArray[np.float32]:
        """Compute probabilities of a part of the cropped scan along one axis of the network."""
        taps, sides = [], []
        for other, along in enumerate(self.taps):
            side = part if other == axis else slice(0, len(along))
            low = int(along.low[side.start])
            taps.append(along.part(side.start, side.stop, low))
            sides.append(slice(low, int(along.high[side.stop - 1]) + 1))
        count, depth, height, width = self.logits.shape
        lines = self.logits.reshape(count, depth * height, width).swapaxes(0, 1)
        places = np.arange(depth * height).reshape(depth, height)[sides[0], sides[1]]
        return resample_probabilities(
            LogitLines(lines[..., sides[2]], places),
            taps,
            range(count),
            exclusive=not self.output.regions,
            activated=self.output.interpolated == "probabilities",
        )
