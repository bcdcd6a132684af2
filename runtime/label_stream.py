"""From tiles to the label map without ever holding the logits of a whole scan.

Tiles run in order of depth. When no later tile reaches a plane of the network's grid, the
plane is finished: its logits are divided by the sum of the weights, interpolated to the
scan's grid and reduced to labels, and its memory goes to the planes to come. So the logits
in memory span one tile of depth, not the scan. Where even that is too much, the scan is
divided along height and width into blocks that are streamed one after the other; tiles
across a border then run once for each side.

Every voxel sees the same operations in the same order as with all logits in memory, so
the labels are the same, voxel for voxel, whatever the budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.label_kernels import (
    AxisTaps,
    Logits,
    blend_tile,
    label_taps,
    resample_labels,
)
from segmaformer.runtime.labelling import label_dtype, logits_to_labels
from segmaformer.runtime.manifest import Manifest, Output, Tiling
from segmaformer.runtime.preprocessing import Preprocessed, restore_logits
from segmaformer.runtime.probabilities import resample_probability, to_probability
from segmaformer.runtime.tiling import (
    Box,
    RunTiles,
    pad_to_tile,
    predict_logits,
    tile_boxes,
    tile_weights,
)

BYTES = np.dtype(np.float32).itemsize
DIVISIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of blocks along height and width that are considered."""


@dataclass(frozen=True)
class Block:
    """A part of the target grid and the part of the padded source grid that it needs.

    Attributes
    ----------
    target
        Voxels of the target along height and width.
    source
        Rows and columns of the padded source.
    """

    target: tuple[slice, slice]
    source: tuple[slice, slice]

    def meets(self, box: Box) -> bool:
        """Whether a tile reaches into the source."""
        return all(
            side.start < part.stop and part.start < side.stop
            for side, part in zip(box[1:], self.source, strict=True)
        )


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
    budget_bytes
        For the sums of logits and the logits of one tile.
    threads
        For blending and interpolation.

    Raises
    ------
    BudgetError
        The budget does not suffice for the smallest blocks.
    """

    def __init__(
        self,
        image: Logits,
        tiling: Tiling,
        output: Output,
        taps: tuple[AxisTaps, AxisTaps, AxisTaps],
        *,
        budget_bytes: int,
        threads: int,
    ):
        self._image, inner = pad_to_tile(image, tiling.tile)
        self._origin = tuple(side.start for side in inner)
        self._tile = tiling.tile
        self._weights = tile_weights(tiling)
        self._output = output
        self._taps = taps
        self._threads = threads
        _, depth, height, width = self._image.shape
        self._boxes = tile_boxes((depth, height, width), tiling)
        self._blocks = self._choose_blocks(budget_bytes)

    @property
    def tile_runs(self) -> int:
        """Tiles that :meth:`run` sends through the network."""
        return sum(block.meets(box) for block in self._blocks for box in self._boxes)

    def run(
        self,
        network: RunTiles,
        progress: Callable[[int, int], None],
        *,
        probability_of: int | None = None,
    ) -> np.ndarray:
        """Labels, or one channel's probability, on the target grid.

        Parameters
        ----------
        network
            Tiles (1, C, *tile) to logits (1, K, *tile).
        progress
            Called with the tiles done and their number.
        probability_of
            The channel; None for labels.
        """
        shape = tuple(len(axis) for axis in self._taps)
        dtype = label_dtype(self._output) if probability_of is None else np.float32
        result = np.zeros(shape, dtype)
        done, count = itertools.count(1), self.tile_runs
        progress(0, count)

        def report_tile() -> None:
            progress(next(done), count)

        for block in self._blocks:
            for place, logits, taps in self._finished(block, network, report_tile):
                result[place] = self._reduce(logits, taps, probability_of)
        return result

    def _reduce(
        self, logits: Logits, taps: list[AxisTaps], probability_of: int | None
    ) -> np.ndarray:
        regions = [region.value for region in self._output.regions] or None
        if probability_of is None:
            return resample_labels(logits, taps, regions=regions, threads=self._threads)
        return resample_probability(logits, taps, probability_of, exclusive=regions is None)

    def _finished(
        self, block: Block, network: RunTiles, report_tile: Callable[[], None]
    ) -> Iterator[tuple[tuple[slice, ...], Logits, list[AxisTaps]]]:
        """Place in the target, logits and taps of every stretch of planes as it is finished."""
        slab = _Slab(self._output.channels, self._tile[0], block)
        finished = 0
        rows = [
            (start, list(boxes))
            for start, boxes in itertools.groupby(self._boxes, key=lambda box: box[0].start)
        ]
        ends = [start for start, _ in rows[1:]] + [self._image.shape[1]]
        for (start, boxes), end in zip(rows, ends, strict=True):
            for box in filter(block.meets, boxes):
                tile = np.ascontiguousarray(self._image[(slice(None), *box)])[None]
                slab.add(box, network(tile)[0], self._weights, self._threads)
                report_tile()
            slab.finish(end - start)
            # Target planes whose upper neighbour is finished; the lower one is kept with them.
            ready = int(np.searchsorted(self._taps[0].high, end - self._origin[0]))
            if ready > finished:
                sides = (slice(finished, ready), *block.target)
                yield sides, slab.sums, self._taps_of(sides, block, start)
            finished = ready
            slab.advance(end - start)

    def _taps_of(self, sides: tuple[slice, ...], block: Block, start: int) -> list[AxisTaps]:
        origins = (start - 1, block.source[0].start, block.source[1].start)
        return [
            axis.part(side.start, side.stop, origin - pad)
            for axis, side, origin, pad in zip(
                self._taps, sides, origins, self._origin, strict=True
            )
        ]

    def _choose_blocks(self, budget_bytes: int) -> list[Block]:
        """The division that fits the budget with the fewest tiles run."""
        fixed = 2 * self._output.channels * int(np.prod(self._tile)) * BYTES
        plane_bytes = (self._tile[0] + 1) * (self._output.channels + 1) * BYTES
        rows, columns = ([self._divide(axis, count) for count in DIVISIONS] for axis in (1, 2))
        pairs = list(itertools.product(rows, columns))
        needed = [fixed + plane_bytes * r.longest * c.longest for r, c in pairs]
        if min(needed) > budget_bytes:
            raise BudgetError("the logits", budget_bytes, min(needed))
        fitting = [pair for pair, size in zip(pairs, needed, strict=True) if size <= budget_bytes]
        row, column = min(fitting, key=lambda pair: pair[0].tile_runs * pair[1].tile_runs)
        return [
            Block((r[0], c[0]), (r[1], c[1])) for r, c in itertools.product(row.parts, column.parts)
        ]

    def _divide(self, axis: int, count: int) -> _Division:
        starts = {box[axis].start for box in self._boxes}
        taps, origin = self._taps[axis], self._origin[axis]
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
class _Division:
    """Target and padded source ranges of the parts of one axis, and the tiles they meet."""

    parts: list[tuple[slice, slice]]
    tile_runs: int

    @property
    def longest(self) -> int:
        """Source voxels of the longest part."""
        return max(source.stop - source.start for _, source in self.parts)


class _Slab:
    """Weighted sums of logits over one tile of depth, below one finished plane.

    Plane 0 of `sums` is the last finished plane of the previous round, plane 1 the first
    that tiles of this round reach.
    """

    def __init__(self, channels: int, depth: int, block: Block):
        shape = tuple(side.stop - side.start for side in block.source)
        self.sums = np.zeros((channels, depth + 1, *shape), np.float32)
        self._weight_sums = np.zeros((1, depth + 1, *shape), np.float32)
        self._block = block

    def add(self, box: Box, logits: Logits, weights: Logits, threads: int) -> None:
        """Add the part of a tile's logits (K, *tile) that lies in the block."""
        inside, outside = [slice(None)], [slice(1, None)]
        for side, part in zip(box[1:], self._block.source, strict=True):
            begin, end = max(side.start, part.start), min(side.stop, part.stop)
            inside.append(slice(begin - side.start, end - side.start))
            outside.append(slice(begin - part.start, end - part.start))
        weights = weights[tuple(inside)]
        place = (slice(None), *outside)
        blend_tile(self.sums[place], logits[(slice(None), *inside)], weights, threads=threads)
        self._weight_sums[place] += weights

    def finish(self, planes: int) -> None:
        """Turn the first sums of this round into means."""
        done = slice(1, planes + 1)
        self.sums[:, done] /= self._weight_sums[:, done]

    def advance(self, planes: int) -> None:
        """Move on by `planes`: forget the finished ones but the last, and make room."""
        kept = self.sums.shape[1] - planes
        for array in (*self.sums, *self._weight_sums):
            array[:kept] = array[planes:]
            array[kept:] = 0


def predict_labels(
    prepared: Preprocessed,
    manifest: Manifest,
    network: RunTiles,
    *,
    budget_bytes: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
    probability_of: int | None = None,
) -> np.ndarray:
    """Labels of a preprocessed scan on its cropped grid, or one channel's probability.

    Parameters
    ----------
    prepared
        From :func:`segmaformer.runtime.preprocessing.preprocess`.
    manifest
        Of the package.
    network
        Tiles (1, C, *tile) to logits (1, K, *tile).
    budget_bytes
        For image, logits and labels.
    threads
        For blending and interpolation.
    progress
        Called with the tiles done and their number.
    probability_of
        The channel; None for labels.

    Returns
    -------
    np.ndarray
        Shape ``prepared.cropped_shape``; uint8 or uint16, or float32 for a probability.

    Raises
    ------
    BudgetError
        The budget does not suffice; the error says the least that would.
    """
    report = progress or (lambda done, count: None)
    output, tiling = manifest.output, manifest.tiling
    resampling = manifest.preprocessing.logits_resampling
    voxels = int(np.prod(prepared.cropped_shape))
    # The result exists once on the cropped grid and once in the order of the file.
    dtype = np.dtype(label_dtype(output) if probability_of is None else np.float32)
    taken = prepared.image.nbytes + 2 * voxels * dtype.itemsize
    _, depth, height, width = prepared.image.shape
    taps = label_taps(
        (depth, height, width),
        prepared.cropped_shape,
        spacing_mm=prepared.spacing_mm,
        new_spacing_mm=prepared.scan_spacing_mm,
        resampling=resampling,
    )
    if taps is not None:
        left = budget_bytes - taken
        stream = LabelStream(
            prepared.image, tiling, output, taps, budget_bytes=left, threads=threads
        )
        return stream.run(network, report, probability_of=probability_of)
    # Splines of higher order reach across the whole scan: all logits are needed at once.
    needed = taken + output.channels * BYTES * (voxels + 2 * int(np.prod(prepared.image.shape[1:])))
    if needed > budget_bytes:
        raise BudgetError(
            "the logits, resampled by a spline of order above one,", budget_bytes, needed
        )
    logits = predict_logits(prepared.image, tiling, network, output.channels, progress=report)
    logits = restore_logits(logits, prepared, resampling, threads=threads)
    if probability_of is None:
        return logits_to_labels(logits, output)
    return to_probability(logits, probability_of, exclusive=not output.regions)
