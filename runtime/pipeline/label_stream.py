"""Computation of a label map from tiles, without holding the logits of a whole scan.

The native pipeline runs the tiles in order of depth, then of height. Voxels that no later tile
reaches are finished: their sums of logits are divided by the sum of the weights, interpolated to
the scan's grid and reduced to labels, and their memory is used for later voxels. Every voxel sees
the same operations in the same order as with all logits in memory, so the labels are the same,
voxel for voxel, for every budget.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.bindings.callbacks import Callbacks, array_at
from segmaformer.runtime.bindings.label_task import (
    FinishedLogitsArgs,
    LabelTaskArgs,
    MemoryBudgetArgs,
)
from segmaformer.runtime.bindings.logit_lines import AxisTaps, LogitLines, Logits
from segmaformer.runtime.bindings.native_stream import NativeStream
from segmaformer.runtime.bindings.pipeline_call import as_json
from segmaformer.runtime.bindings.structs import ResizeArgs
from segmaformer.runtime.pipeline.device_network import DeviceNetwork, LentLogits
from segmaformer.runtime.pipeline.labels import label_dtype
from segmaformer.runtime.pipeline.probabilities import resample_probabilities
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.progress import StepProgress
from segmaformer.runtime.spec import Box, Output, Resampling, Spacing, Tiling, Triple


@dataclass(frozen=True)
class LogitsGrid:
    """Grid that logits are resampled to.

    Attributes
    ----------
    shape, spacing_mm
        Shape (d, h, w) of the labels, and their spacing in mm.
    image_spacing_mm
        Spacing of the image in mm.
    resampling
        Method of interpolation.
    """

    shape: Triple
    spacing_mm: Spacing
    image_spacing_mm: Spacing
    resampling: Resampling


@dataclass(frozen=True)
class MemoryBudget:
    """Memory of the processor for a prediction, and what is held of it.

    The image, the tiles that the network holds and the sums of logits come on top of that: how
    much all of it is, ``sgmf::LabelStream`` decides alone, for Python and for libsgmf.

    Attributes
    ----------
    budget_bytes
        For all of it.
    scan_bytes
        Voxels of the scan.
    scan_voxels
        Voxels of one of its channels, and of its label map.
    bytes_per_label
        Bytes of a voxel of the label map.
    probability_maps
        Maps of probabilities that are computed at once.
    postprocessing_bytes
        Held after the stream, beside scan, image and label map.
    """

    budget_bytes: int
    scan_bytes: int = 0
    scan_voxels: int = 0
    bytes_per_label: int = 0
    probability_maps: int = 0
    postprocessing_bytes: int = 0


class LabelStream:
    """Stream of one image through a network into labels.

    Parameters
    ----------
    image
        Shape (C, D, H, W), float32, on the network's grid.
    tiling, output
        Tiling and output of the package.
    grid
        Grid of the labels.
    network
        Network that runs the tiles.
    device
        What runs the tiles for labels instead, and leaves their logits where the sums then
        are.
    budget
        For everything in memory of the processor.
    threads
        Number of threads for blending and interpolation.

    Raises
    ------
    BudgetError
        The budget, or the free memory of the device, does not suffice for the smallest blocks.
    """

    def __init__(
        self,
        image: Logits,
        tiling: Tiling,
        output: Output,
        grid: LogitsGrid,
        network: TileNetwork,
        *,
        device: DeviceNetwork | None = None,
        budget: MemoryBudget,
        threads: int,
    ):
        channels, depth, height, width = image.shape
        callbacks = Callbacks()
        task = LabelTaskArgs(
            tiling=as_json(tiling),
            output=as_json(output),
            resampling=as_json(grid.resampling),
            channels=channels,
            resize=ResizeArgs(
                (depth, height, width), grid.shape, grid.image_spacing_mm, grid.spacing_mm
            ),
            network=network.args(channels, output.channels, tiling.tile, callbacks),
            threads=threads,
            budget=MemoryBudgetArgs(*dataclasses.astuple(budget)),
        )
        self._lent: LentLogits | None = None
        if device is not None:
            self._lent = LentLogits(device, (channels, *tiling.tile), callbacks)
            task.network.tiles_at_once = device.tiles_at_once
            task.device = self._lent.pointer
        self._image, self._output, self._grid = image, output, grid
        self._native = NativeStream(task, callbacks)
        self.tile_runs = self._native.tile_runs
        """Tiles of a run; those of one equal value go through the network once."""
        self.streams = self._native.streams
        """False where splines of order above one need all logits at once."""

    def labels(self, progress: StepProgress, into: np.ndarray | None = None) -> np.ndarray:
        """Compute labels on the target grid.

        Parameters
        ----------
        progress
            Called as work proceeds.
        into
            Array or view of their shape, uint8 or uint16, to be filled; None for a new one.
        """
        labels = np.zeros(self._grid.shape, label_dtype(self._output)) if into is None else into
        try:
            self._native.labels(self._image, labels, progress)
        finally:
            if self._lent is not None:
                self._lent.close()
        return labels

    def probabilities(self, channels: Sequence[int], progress: StepProgress) -> np.ndarray:
        """Compute probabilities of some channels on the target grid, if that :attr:`streams`.

        Parameters
        ----------
        channels
            Channels of the logits, at least one.
        progress
            Called as work proceeds.

        Returns
        -------
        ndarray
            Shape (len(channels), d, h, w), float32, from 0 to 1.
        """
        exclusive = not self._output.regions
        activated = self._output.interpolated == "probabilities"
        maps = np.zeros([len(channels), *self._grid.shape], np.float32)

        def take(place: Box, logits: LogitLines, taps: list[AxisTaps]) -> None:
            maps[(slice(None), *place)] = resample_probabilities(
                logits, taps, channels, exclusive=exclusive, activated=activated
            )

        self._stream(take, progress)
        return maps

    def logits(self, progress: StepProgress) -> Logits:
        """Compute all logits (K, D, H, W) on the image's own grid.

        That is the target grid, or the stream does not reach it.
        """
        logits = np.empty((self._output.channels, *self._image.shape[1:]), np.float32)

        def take(place: Box, finished: LogitLines, taps: list[AxisTaps]) -> None:
            depth, height, width = (axis.low for axis in taps)
            lines = finished.memory[finished.places[np.ix_(depth, height)]][..., width]
            logits[(slice(None), *place)] = np.moveaxis(lines, 2, 0)

        self._stream(take, progress)
        return logits

    def _stream(
        self, take: Callable[[Box, LogitLines, list[AxisTaps]], None], progress: StepProgress
    ) -> None:
        def taken(finished: FinishedLogitsArgs) -> None:
            taps = [AxisTaps.of(axis) for axis in finished.taps]
            take(finished.box, _lines(finished), taps)

        self._native.logits(self._image, taken, progress)


def _lines(finished: FinishedLogitsArgs) -> LogitLines:
    """Return a view of finished logits in memory of the native pipeline."""
    places = finished.places
    shape = int(places.max()) + 1, finished.channels, finished.width
    strides = finished.line_stride, finished.channel_stride, 1
    last = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    memory = array_at(finished.memory, np.float32, last + 1)
    in_bytes = [stride * memory.itemsize for stride in strides]
    return LogitLines(np.lib.stride_tricks.as_strided(memory, shape, in_bytes), places)
