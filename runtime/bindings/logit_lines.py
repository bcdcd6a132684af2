"""Finished logits as the native pipeline shows them, in NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.callbacks import array_at
from segmaformer.runtime.bindings.kernel_structs import AxisTapsArgs

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AxisTaps:
    """Places of the voxels of one axis between those of another grid.

    A voxel is ``(1 - weight) * source[low] + weight * source[high]``, with `high` equal to
    `low` or one more.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.low)

    @classmethod
    def of(cls, args: AxisTapsArgs) -> AxisTaps:
        """Copy of what a structure points to."""
        low, high = (array_at(a, np.int64, args.count).copy() for a in (args.low, args.high))
        return cls(low, high, array_at(args.weight, np.float64, args.count).copy())

    def part(self, begin: int, end: int, origin: int) -> AxisTaps:
        """Taps of voxels `begin` to `end`, of a source that starts at voxel `origin`."""
        side = slice(begin, end)
        return AxisTaps(self.low[side] - origin, self.high[side] - origin, self.weight[side])


@dataclass(frozen=True, eq=False)
class LogitLines:
    """Logits (K, d, h, w) in lines that lie anywhere in a memory.

    Attributes
    ----------
    memory
        View (N, K, w), float32, with contiguous rows: line n holds one row of voxels along
        width in every channel.
    places
        Shape (d, h): which line holds the row at a depth and height.
    """

    memory: Logits
    places: npt.NDArray[np.int64]

    def plane(self, depth: int) -> Logits:
        """Copy (K, h, w) of one plane."""
        return self.memory[self.places[depth]].swapaxes(0, 1)
