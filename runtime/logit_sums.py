"""Weighted sums of logits, held from a voxel's first tile to its label and no longer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.label_kernels import LogitLines, Logits, blend_tile, divide_lines
from segmaformer.runtime.tiling import Box, shared_part


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


class LogitSums:
    """Sums over the tiles of a region, whose strips come one after the other.

    The row of a voxel along width takes a line when the first tile reaches it, and gives it
    back when it is finished and no later row or plane is interpolated with it.

    Parameters
    ----------
    channels
        K.
    region
        Voxels that matter; tiles may reach beyond.
    tile_depth
        Planes of a tile.
    capacity
        Lines that may exist at once, see :func:`most_lines`.
    threads
        For blending.
    """

    def __init__(self, channels: int, region: Box, tile_depth: int, capacity: int, threads: int):
        _, rows, columns = region
        self._region = region
        self._threads = threads
        self._memory = np.empty((capacity, channels, columns.stop - columns.start), np.float32)
        self._free = list(range(capacity))
        # Planes that are in use follow each other and share their places in turn.
        self._places = np.full((tile_depth + 1, rows.stop - rows.start), -1, np.int64)

    def add(self, box: Box, logits: Logits, weights: Logits) -> None:
        """Add the part of a tile's weighted logits (K, *tile) that lies in the region."""
        shared = shared_part(box, self._region)
        if shared is None:
            return
        inside, (_, rows, columns) = shared
        index = self._index(box[0], rows)
        lines = LogitLines(self._memory[..., columns], self._taken(index))
        blend_tile(lines, logits[(slice(None), *inside)], weights[inside], threads=self._threads)

    def finish(self, strip: Strip, weight_sums: Logits) -> LogitLines:
        """Turn the sums of a strip into means, and show them below and beside their neighbours.

        Returns
        -------
        LogitLines
            The strip's planes and rows, behind the last plane and the last row before them
            where there are such.
        """
        rows = self._rows(strip)
        finished = LogitLines(self._memory, self._places[self._index(strip.planes, rows)])
        divide_lines(finished, weight_sums, threads=self._threads)
        planes = slice(max(strip.planes.start - 1, self._region[0].start), strip.planes.stop)
        rows = slice(max(rows.start - 1, 0), rows.stop)
        return LogitLines(self._memory, self._places[self._index(planes, rows)])

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
            self._memory[new] = 0
            places[missing] = new
            self._places[index] = places
        return places
