"""From tiles to the label map without ever holding the logits of a whole scan.

Tiles run in order of depth, then of height. What no later tile reaches is finished: its
sums of logits are divided by the sum of the weights, interpolated to the scan's grid and
reduced to labels, and their memory goes to the voxels to come. So the logits in memory
span the overlap of two tiles in depth, and one tile in depth and height, not the scan.
Where even that is too much, the scan is divided along height and width into blocks that
are streamed one after the other; tiles across a border then run once for each side.

Every voxel sees the same operations in the same order as with all logits in memory, so
the labels are the same, voxel for voxel, whatever the budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from segmaformer.runtime.device_lines import (
    DeviceLines,
    DeviceLogits,
    DeviceNetwork,
    lines_bytes,
)
from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.label_kernels import AxisTaps, Logits
from segmaformer.runtime.labelling import label_dtype
from segmaformer.runtime.logit_sums import (
    HostLines,
    Lines,
    LogitSums,
    Places,
    Strip,
    most_lines,
    strips,
)
from segmaformer.runtime.manifest import Output, Tiling
from segmaformer.runtime.probabilities import resample_probabilities
from segmaformer.runtime.tile_feed import TileNetwork, tile_logits
from segmaformer.runtime.tiling import (
    Box,
    meet,
    place_in_tiles,
    shared_part,
    tile_boxes,
    tile_weights,
)

L = TypeVar("L", bound="Lines[Any]")

BYTES = np.dtype(np.float32).itemsize
DIVISIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of blocks along height and width that are considered."""


@dataclass(frozen=True)
class Block:
    """A part of the target grid and the part of the source's tiles that it needs.

    Attributes
    ----------
    target
        Voxels of the target along height and width.
    source
        Voxels that matter, in the coordinates of the tiles; all along depth.
    lines
        Lines of logits that exist at once at most.
    """

    target: tuple[slice, slice]
    source: Box
    lines: int

    @property
    def width(self) -> int:
        """Voxels of a line."""
        return self.source[2].stop - self.source[2].start

    def tiles(self, boxes: Sequence[Box]) -> list[Box]:
        """Those that reach into the source."""
        return [box for box in boxes if meet(box, self.source)]


class LabelStream:
    """Streams one image through a network into labels.

    Parameters
    ----------
    image
        Shape (C, D, H, W), float32, on the network's grid.
    tiling, output
        Of the package.
    taps
        From the network's grid to the target's, one for each axis.
    network
        What runs the tiles.
    device
        What runs the tiles for labels instead, and leaves their logits where the sums then
        are.
    budget_bytes
        For everything in memory of the processor.
    taken_bytes
        What others hold of that; the rest is for the sums of logits and the tiles that the
        network holds.
    threads
        For blending and interpolation.

    Raises
    ------
    BudgetError
        The budget, or the memory that is free on the device, does not suffice for the
        smallest blocks.
    """

    def __init__(
        self,
        image: Logits,
        tiling: Tiling,
        output: Output,
        taps: tuple[AxisTaps, AxisTaps, AxisTaps],
        network: TileNetwork,
        *,
        device: DeviceNetwork | None = None,
        budget_bytes: int,
        taken_bytes: int = 0,
        threads: int,
    ):
        _, depth, height, width = image.shape
        shape, self._place = place_in_tiles((depth, height, width), tiling.tile)
        self._image = image
        self._tile = tiling.tile
        self._weights = tile_weights(tiling)
        self._output = output
        self._taps = taps
        self._network = network
        self._device = device
        self._threads = threads
        self._boxes = tile_boxes(shape, tiling)
        self._depth = shape[0]
        self._blocks = self._choose_blocks(budget_bytes, taken_bytes)

    @property
    def tile_runs(self) -> int:
        """Tiles that a run sends through the network."""
        return sum(len(block.tiles(self._boxes)) for block in self._blocks)

    def labels(self, progress: Callable[[int, int], None]) -> np.ndarray:
        """Labels on the target grid.

        Parameters
        ----------
        progress
            Called with the tiles done and their number.
        """
        regions = [region.value for region in self._output.regions] or None
        labels = np.zeros([len(axis) for axis in self._taps], label_dtype(self._output))
        # After an error the network must not go on waiting for its logits to be used.
        with closing(self._parts(progress)) as parts:
            for place, lines, rows, taps in parts:
                labels[place] = lines.labels(rows, taps, regions)
        return labels

    def probabilities(
        self, channels: Sequence[int], progress: Callable[[int, int], None]
    ) -> np.ndarray:
        """Probabilities of some channels on the target grid.

        Parameters
        ----------
        channels
            At least one.
        progress
            Called with the tiles done and their number.

        Returns
        -------
        ndarray
            Shape (len(channels), d, h, w), float32.
        """
        exclusive = not self._output.regions
        maps = np.zeros([len(channels), *(len(axis) for axis in self._taps)], np.float32)
        logits_of = self._tile_logits
        for place, lines, rows, taps in self._finished(self._host_lines, logits_of, progress):
            maps[(slice(None), *place)] = resample_probabilities(
                lines.logits(rows), taps, channels, exclusive=exclusive
            )
        return maps

    def _parts(
        self, progress: Callable[[int, int], None]
    ) -> Generator[tuple[Box, HostLines | DeviceLines, Places, list[AxisTaps]], None, None]:
        device = self._device
        if device is None:
            yield from self._finished(self._host_lines, self._tile_logits, progress)
            return

        def new_lines(block: Block) -> DeviceLines:
            shape = (block.lines, self._output.channels, block.width)
            return DeviceLines(device.device, *shape, self._weights)

        def logits_of(boxes: Sequence[Box]) -> Generator[DeviceLogits, None, None]:
            return device.logits(self._image, self._place, boxes)

        yield from self._finished(new_lines, logits_of, progress)

    def _host_lines(self, block: Block) -> HostLines:
        shape = (block.lines, self._output.channels, block.width)
        return HostLines(*shape, self._weights, self._threads)

    def _tile_logits(self, boxes: Sequence[Box]) -> Generator[Logits, None, None]:
        return tile_logits(self._image, self._place, boxes, self._network)

    def _finished(
        self,
        new_lines: Callable[[Block], L],
        logits_of: Callable[[Sequence[Box]], Generator[Any, None, None]],
        progress: Callable[[int, int], None],
    ) -> Iterator[tuple[Box, L, Places, list[AxisTaps]]]:
        """Place in the target, lines, which of them, and taps of every finished part."""
        plan = [(block, block.tiles(self._boxes)) for block in self._blocks]
        boxes = [box for _, tiles in plan for box in tiles]
        done, count = itertools.count(1), len(boxes)
        progress(0, count)
        with closing(logits_of(boxes)) as logits:
            for block, tiles in plan:
                lines = new_lines(block)
                sums = LogitSums(lines, block.source, self._tile[0], block.lines)
                for strip in strips(tiles, block.source):
                    for box in strip.boxes:
                        sums.add(box, next(logits))
                        progress(next(done), count)
                    finished = sums.finish(strip, self._weight_sums(strip, block, tiles))
                    place = self._target_of(strip, block)
                    if all(side.start < side.stop for side in place):
                        yield place, lines, finished, self._taps_of(place, strip, block)
                    sums.release(strip)
                del sums, lines  # before the next block takes as much

    def _weight_sums(self, strip: Strip, block: Block, tiles: Sequence[Box]) -> Logits:
        """Sums of the weights of the tiles, in their order."""
        region = (strip.planes, strip.rows, block.source[2])
        total = np.zeros([side.stop - side.start for side in region], np.float32)
        for box in tiles:
            shared = shared_part(box, region)
            if shared is not None:
                inside, outside = shared
                total[outside] += self._weights[inside]
        return total

    def _target_of(self, strip: Strip, block: Block) -> Box:
        """Target voxels whose upper neighbours lie in a strip; the lower ones are kept for them."""
        depth, height = (
            slice(*np.searchsorted(axis.high, (side.start - place.start, side.stop - place.start)))
            for axis, side, place in zip(
                self._taps[:2], (strip.planes, strip.rows), self._place[:2], strict=True
            )
        )
        rows, columns = block.target
        return depth, slice(max(height.start, rows.start), min(height.stop, rows.stop)), columns

    def _taps_of(self, target: Box, strip: Strip, block: Block) -> list[AxisTaps]:
        """Taps of target voxels from what :meth:`LogitSums.finish` shows of a strip."""
        depth, rows, columns = block.source
        origins = (
            max(strip.planes.start - 1, depth.start),
            max(strip.rows.start - 1, rows.start),
            columns.start,
        )
        return [
            axis.part(side.start, side.stop, origin - place.start)
            for axis, side, origin, place in zip(
                self._taps, target, origins, self._place, strict=True
            )
        ]

    def _choose_blocks(self, budget_bytes: int, taken_bytes: int) -> list[Block]:
        """The division that fits the budget with the fewest tiles run."""
        rows, columns = ([self._divide(axis, count) for count in DIVISIONS] for axis in (1, 2))
        lines = {id(division): self._lines(division) for division in rows}
        pairs = list(itertools.product(rows, columns))
        sizes = [self._sums_bytes(max(lines[id(r)]), c.longest) for r, c in pairs]
        fitting = pairs
        for limit in self._limits(budget_bytes, taken_bytes):
            needed = [limit.fixed_bytes + limit.has_sums * size for size in sizes]
            if min(needed) > limit.bytes:
                raise BudgetError(limit.what, limit.bytes, min(needed))
            fits = dict(zip(map(id, pairs), (size <= limit.bytes for size in needed), strict=True))
            fitting = [pair for pair in fitting if fits[id(pair)]]
        row, column = min(fitting, key=lambda pair: pair[0].tile_runs * pair[1].tile_runs)
        depth = slice(0, self._depth)
        return [
            Block((r[0], c[0]), (depth, r[1], c[1]), count)
            for (r, count), c in itertools.product(
                zip(row.parts, lines[id(row)], strict=True), column.parts
            )
        ]

    def _sums_bytes(self, lines: int, width: int) -> int:
        if self._device is None:
            return lines * self._output.channels * width * BYTES
        return lines_bytes(lines, self._output.channels, width, self._tile)

    def _limits(self, budget_bytes: int, taken_bytes: int) -> list[_Limit]:
        network = self._network if self._device is None else self._device
        held = network.floats_held(len(self._image), self._output.channels)
        fixed = taken_bytes + held * int(np.prod(self._tile)) * BYTES
        what = "scan, image, logits and labels"
        if self._device is None:
            return [_Limit(what, budget_bytes, fixed, has_sums=True)]
        device = self._device.device
        sums = f"sums of logits on {device.facts.name}"
        return [
            _Limit(what, budget_bytes, fixed, has_sums=device.facts.integrated),
            _Limit(sums, device.free_bytes(), 0, has_sums=True),
        ]

    def _lines(self, rows: _Division) -> list[int]:
        """Lines that exist at once at most, for each part of a division along height."""
        column = [box for box in self._boxes if box[2].start == 0]
        regions = [(slice(0, self._depth), source, self._boxes[0][2]) for _, source in rows.parts]
        return [
            most_lines([box for box in column if meet(box, region)], region) for region in regions
        ]

    def _divide(self, axis: int, count: int) -> _Division:
        starts = {box[axis].start for box in self._boxes}
        taps, origin = self._taps[axis], self._place[axis].start
        edges = np.unique(np.linspace(0, len(taps), count + 1).round().astype(int)).tolist()
        parts = [
            (slice(a, b), slice(int(taps.low[a]) + origin, int(taps.high[b - 1]) + 1 + origin))
            for a, b in itertools.pairwise(edges)
        ]
        tile_runs = sum(
            start < source.stop and source.start < start + self._tile[axis]
            for start in starts
            for _, source in parts
        )
        return _Division(parts, tile_runs)


@dataclass(frozen=True)
class _Limit:
    """Some memory, what takes it, and whether the sums of logits do as well."""

    what: str
    bytes: int
    fixed_bytes: int
    has_sums: bool


@dataclass(frozen=True)
class _Division:
    """Target and padded source ranges of the parts of one axis, and the tiles they meet."""

    parts: list[tuple[slice, slice]]
    tile_runs: int

    @property
    def longest(self) -> int:
        """Source voxels of the longest part."""
        return max(source.stop - source.start for _, source in self.parts)
