"""Lines of logits in memory of the processor, with the native pipeline's kernels.

The sums of devices are checked against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.bindings.kernels import (
    AxisTaps,
    LogitLines,
    Logits,
    blend_tile,
    divide_lines,
    resample_labels,
)
from segmaformer.runtime.spec import Box

Places = npt.NDArray[np.int64]
"""Shape (d, h): the line of each row."""

Tile = TypeVar("Tile", contravariant=True)


class Lines(Protocol[Tile]):
    """Memory for lines of logits, in which tiles are summed and from which labels come.

    A tile's logits (K, *tile) are an array, or an object on a device, depending on the memory.
    """

    def clear(self, lines: Sequence[int]) -> None:
        """Set lines to zero."""
        ...

    def add(self, places: Places, columns: slice, logits: Tile, inside: Box) -> None:
        """Add the weighted logits of the part `inside` of a tile to `columns` of lines."""
        ...

    def divide(self, places: Places, divisors: Logits) -> None:
        """Divide every channel of lines by `divisors` (d, h, width)."""
        ...

    def labels(
        self, places: Places, taps: Sequence[AxisTaps], regions: Sequence[int] | None
    ) -> npt.NDArray[np.uint16]:
        """Resample lines to labels, as :mod:`segmaformer.runtime.bindings.kernels` does."""
        ...


class HostLines:
    """Lines in memory of the processor.

    Parameters
    ----------
    capacity, channels, width
        Number of lines, channels of each, and voxels along a line.
    weights
        Weights of the voxels of a tile, shape (D, H, W), float32.
    threads
        Number of threads to use.
    """

    def __init__(self, capacity: int, channels: int, width: int, weights: Logits, threads: int):
        self._memory = np.empty((capacity, channels, width), np.float32)
        self._weights, self._threads = weights, threads

    def clear(self, lines: Sequence[int]) -> None:
        """Set lines to zero."""
        self._memory[list(lines)] = 0

    def add(self, places: Places, columns: slice, logits: Logits, inside: Box) -> None:  # noqa: D102
        lines = LogitLines(self._memory[..., columns], places)
        part = logits[(slice(None), *inside)]
        blend_tile(lines, part, self._weights[inside], threads=self._threads)

    def divide(self, places: Places, divisors: Logits) -> None:  # noqa: D102
        divide_lines(self.logits(places), divisors, threads=self._threads)

    def labels(  # noqa: D102
        self, places: Places, taps: Sequence[AxisTaps], regions: Sequence[int] | None
    ) -> npt.NDArray[np.uint16]:
        return resample_labels(self.logits(places), taps, regions=regions, threads=self._threads)

    def logits(self, places: Places) -> LogitLines:
        """Return the content of lines."""
        return LogitLines(self._memory, places)
