"""Weighted sums of logits, held from a voxel's first tile to its label and no longer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.label_kernels import (
    AxisTaps,
    LogitLines,
    Logits,
    blend_tile,
    divide_lines,
    resample_labels,
)
from segmaformer.runtime.tiling import Box, shared_part

Places = npt.NDArray[np.int64]
"""Shape (d, h): the line of each row."""

Tile = TypeVar("Tile", contravariant=True)


@dataclass(frozen=True)
class Strip:
    """Tiles that share their depth and height, and the voxels that are finished with them.

    Attributes
    ----------
    boxes
        The tiles.
    planes, rows
        Depths and heights that these tiles are the last to reach.
    """

    boxes: Sequence[Box]
    planes: slice
    rows: slice


def strips(boxes: Sequence[Box], region: Box) -> list[Strip]:
    """The tiles of a region, depth slowest, by what they finish.

    Parameters
    ----------
    boxes
        Tiles that reach into the region and cover it, on a grid, depth slowest.
    region
        Voxels that matter: all along depth.
    """
    depths, heights = _starts(boxes)
    planes = _between(depths, region[0])
    rows = _between(heights, region[1])
    groups = [(place, list(tiles)) for place, tiles in itertools.groupby(boxes, _corner)]
    last = {place: index for index, (place, _) in enumerate(groups)}
    return [
        Strip(tiles, _empty_unless(last[place] == index, planes[place[0]]), rows[place[1]])
        for index, (place, tiles) in enumerate(groups)
    ]


def _corner(box: Box) -> tuple[int, int]:
    return box[0].start, box[1].start


def _starts(boxes: Sequence[Box]) -> tuple[list[int], list[int]]:
    depths, heights = (sorted({box[axis].start for box in boxes}) for axis in (0, 1))
    return depths, heights


def _empty_unless(complete: bool, side: slice) -> slice:
    # Steps below one voxel let tiles start at the same depth again: the last ones finish it.
    return side if complete else slice(side.start, side.start)


def _between(starts: Sequence[int], side: slice) -> dict[int, slice]:
    """From each start to the next, inside `side`; the first may be before it."""
    edges = [side.start, *(max(start, side.start) for start in starts[1:]), side.stop]
    return {start: slice(*edges[i : i + 2]) for i, start in enumerate(starts)}


def most_lines(boxes: Sequence[Box], region: Box) -> int:
    """Lines that exist at once at most; parameters as for :func:`strips`."""
    tile = [side.stop - side.start for side in boxes[0]]
    rows = region[1]
    depths, heights = _starts(boxes)
    places = [place for place, _ in itertools.groupby(boxes, _corner)]
    if len(set(places)) < len(places):
        return (tile[0] + 1) * (rows.stop - rows.start)
    counts = []
    for index, depth in enumerate(depths):
        # Sums for the tiles to come, and the last finished plane.
        before = depths[index - 1] + tile[0] - depth + 1 if index else 0
        whole = tile[0] + min(index, 1)
        after = tile[0] - (depths[index + 1] - depth) + 1 if index + 1 < len(depths) else 1
        for height in heights:
            top, bottom = max(height, rows.start), min(height + tile[1], rows.stop)
            # The last finished row stays whole.
            edge = min(top - rows.start, 1)
            counts.append(
                (top - rows.start - edge) * after
                + (edge + bottom - top) * whole
                + (rows.stop - bottom) * before
            )
    return max(counts)


class Lines(Protocol[Tile]):
    """Memory for lines of logits, in which tiles are summed and from which labels come.

    A tile's logits (K, *tile) are what the memory takes: an array, or something on a device.
    """

    def clear(self, lines: Sequence[int]) -> None:
        """Make lines zero."""
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
        """As :func:`segmaformer.runtime.label_kernels.resample_labels`."""
        ...


class HostLines:
    """Lines in memory of the processor.

    Parameters
    ----------
    capacity, channels, width
        Shape of the memory.
    weights
        Of the voxels of a tile, shape (D, H, W), float32.
    threads
        To use.
    """

    def __init__(self, capacity: int, channels: int, width: int, weights: Logits, threads: int):
        self._memory = np.empty((capacity, channels, width), np.float32)
        self._weights, self._threads = weights, threads

    def clear(self, lines: Sequence[int]) -> None:
        """As of :class:`Lines`; so are the others."""
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
        """What lies in lines."""
        return LogitLines(self._memory, places)


class LogitSums(Generic[Tile]):
    """Sums over the tiles of a region, whose strips come one after the other.

    The row of a voxel along width takes a line when the first tile reaches it, and gives it
    back when it is finished and no later row or plane is interpolated with it.

    Parameters
    ----------
    lines
        Memory of `capacity` lines as wide as the region.
    region
        Voxels that matter; tiles may reach beyond.
    tile_depth
        Planes of a tile.
    capacity
        Lines that may exist at once, see :func:`most_lines`.
    """

    def __init__(self, lines: Lines[Tile], region: Box, tile_depth: int, capacity: int):
        rows = region[1]
        self._lines = lines
        self._region = region
        self._free = list(range(capacity))
        # Planes that are in use follow each other and share their places in turn.
        self._places = np.full((tile_depth + 1, rows.stop - rows.start), -1, np.int64)

    def add(self, box: Box, logits: Tile) -> None:
        """Add the part of a tile's weighted logits (K, *tile) that lies in the region."""
        shared = shared_part(box, self._region)
        if shared is None:
            return
        inside, (_, rows, columns) = shared
        self._lines.add(self._taken(self._index(box[0], rows)), columns, logits, inside)

    def finish(self, strip: Strip, weight_sums: Logits) -> Places:
        """Turn the sums of a strip into means, and show them below and beside their neighbours.

        Returns
        -------
        ndarray
            Lines of the strip's planes and rows, behind the last plane and the last row
            before them where there are such.
        """
        rows = self._rows(strip)
        self._lines.divide(self._places[self._index(strip.planes, rows)], weight_sums)
        planes = slice(max(strip.planes.start - 1, self._region[0].start), strip.planes.stop)
        rows = slice(max(rows.start - 1, 0), rows.stop)
        return self._places[self._index(planes, rows)]

    def release(self, strip: Strip) -> None:
        """Give back what no later strip needs: all but the last plane and the last row."""
        rows = self._rows(strip)
        last = strip.rows.stop == self._region[1].stop
        rows = slice(max(rows.start - 1, 0), rows.stop if last else rows.stop - 1)
        planes = slice(max(strip.planes.start - 1, self._region[0].start), strip.planes.stop - 1)
        index = self._index(planes, rows)
        self._free.extend(self._places[index].ravel().tolist())
        self._places[index] = -1

    def _rows(self, strip: Strip) -> slice:
        first = self._region[1].start
        return slice(strip.rows.start - first, strip.rows.stop - first)

    def _index(self, planes: slice, rows: slice) -> tuple[npt.NDArray[np.intp], ...]:
        ring = np.arange(planes.start, planes.stop) % len(self._places)
        return np.ix_(ring, np.arange(rows.start, rows.stop))

    def _taken(self, index: tuple[npt.NDArray[np.intp], ...]) -> npt.NDArray[np.int64]:
        """Places of lines, those without any having been given empty ones."""
        places = self._places[index]
        missing = places < 0
        count = int(np.count_nonzero(missing))
        if count:
            new = [self._free.pop() for _ in range(count)]
            self._lines.clear(new)
            places[missing] = new
            self._places[index] = places
        return places
