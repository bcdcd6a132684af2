"""Prediction of one preprocessed scan: its labels or probabilities, within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.pipeline.device_network import DeviceNetwork
from segmaformer.runtime.pipeline.label_stream import LabelStream, LogitsGrid, MemoryBudget
from segmaformer.runtime.pipeline.labels import label_dtype
from segmaformer.runtime.pipeline.postprocessing import postprocessing_bytes
from segmaformer.runtime.pipeline.preprocessing import Preprocessed, restore_logits
from segmaformer.runtime.pipeline.probabilities import to_probabilities
from segmaformer.runtime.pipeline.resampling import axis_taps
from segmaformer.runtime.pipeline.stored_logits import StoredLogits, stored_bytes
from segmaformer.runtime.pipeline.tile_network import TileNetwork
from segmaformer.runtime.progress import Report, StepProgress
from segmaformer.runtime.spec import KeepLargest, Resampling

ON_PROCESSOR = "logits are copied back and summed by the processor"
"""Report if logits could have been summed on a device, but are not."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A preprocessed scan, its network, and the memory for its prediction.

    Attributes
    ----------
    prepared
        Scan from :func:`segmaformer.runtime.pipeline.preprocessing.preprocess`.
    manifest
        Manifest of the package.
    network
        Network that runs the tiles on the processor.
    budget_bytes
        Memory for scan, image, logits and labels, in bytes.
    scan_bytes
        Memory that the scan holds of that, in bytes.
    threads
        Number of threads for blending and interpolation.
    postprocessing
        Steps on the label map that follow, whose memory the budget must hold too.
    resident
        Network that leaves logits on a device, to be summed there for labels; None without one.
    report
        Called with a line if they are not summed there although there is `resident`.
    """

    prepared: Preprocessed
    manifest: Manifest
    network: TileNetwork
    budget_bytes: int
    scan_bytes: int
    threads: int
    postprocessing: Sequence[KeepLargest] = ()
    resident: DeviceNetwork | None = None
    report: Report = lambda line: None

    def check_budget(self, maps: int = 0) -> None:
        """Raise BudgetError, with the least that would suffice, if :meth:`labels` would.

        With `maps`, if :meth:`probabilities` would for that many at once.
        """
        self._stream(maps)

    def labels(self, progress: StepProgress, into: np.ndarray | None = None) -> np.ndarray:
        """Compute labels on the cropped grid of the scan.

        Parameters
        ----------
        progress
            Called as work proceeds.
        into
            View of shape ``prepared.cropped_shape`` to be filled; None for a new array.

        Returns
        -------
        np.ndarray
            Shape ``prepared.cropped_shape``, uint8 or uint16.

        Raises
        ------
        BudgetError
            The budget does not suffice; the message states the least that would.
        """
        stream = self._resident_stream() or self._stream(0)
        return stream.labels(progress, into)

    def probabilities(
        self, channels: Sequence[int], progress: StepProgress
    ) -> Iterator[np.ndarray]:
        """Compute probabilities of some channels, several in one pass if the budget allows.

        Parameters
        ----------
        channels
            Channels of the logits, at least one.
        progress
            Called with the tiles done and their number.

        Yields
        ------
        np.ndarray
            Map for each channel, shape ``prepared.cropped_shape``, float32, from 0 to 1.

        Raises
        ------
        BudgetError
            As for :meth:`labels`.
        """
        together, stream = self._fewest_tiles(len(channels))
        if not stream.streams:
            yield from self._all_probabilities(stream, channels, progress)
            return
        groups = [channels[first : first + together] for first in range(0, len(channels), together)]
        for index, group in enumerate(groups):

            def report(done: int, count: int, before: int = index) -> None:
                progress(before * count + done, len(groups) * count)

            maps = stream.probabilities(group, report)
            yield from maps
            del maps  # free the memory for the next group

    def logits(self, progress: StepProgress) -> StoredLogits | None:
        """Compute all logits on the network's grid; None if no slab can be interpolated from them.

        Raises
        ------
        BudgetError
            As for :meth:`labels`: the budget holds the logits too.
        """
        prepared, output = self.prepared, self.manifest.output
        _, depth, height, width = prepared.image.shape
        shape, spacing_mm = (depth, height, width), prepared.spacing_mm
        taps = axis_taps(
            shape,
            prepared.cropped_shape,
            spacing_mm=spacing_mm,
            new_spacing_mm=prepared.scan_spacing_mm,
            resampling=prepared.resampling(self.manifest.preprocessing.logits_resampling),
        )
        if taps is None:
            return None
        stream = LabelStream(
            prepared.image,
            self.manifest.tiling,
            output,
            LogitsGrid(shape, spacing_mm, spacing_mm, Resampling(order=1)),
            self.network,
            budget=MemoryBudget(
                self.budget_bytes,
                self.scan_bytes + stored_bytes(output, prepared),
                math.prod(prepared.uncropped_shape),
                np.dtype(label_dtype(output)).itemsize,
            ),
            threads=self.threads,
        )
        return StoredLogits(stream.logits(progress), prepared.without_image, output, taps)

    def _fewest_tiles(self, maps: int) -> tuple[int, LabelStream]:
        """Choose the number of maps for one pass, and make its stream."""
        streams = [self._stream(1)]
        for together in range(2, maps + 1):
            try:
                streams.append(self._stream(together))
            except BudgetError:
                break
        # More maps in one pass leave less memory for logits, which may cost tiles.
        runs = [
            math.ceil(maps / together) * stream.tile_runs
            for together, stream in enumerate(streams, start=1)
        ]
        fewest = runs.index(min(runs))
        return fewest + 1, streams[fewest]

    def _resident_stream(self) -> LabelStream | None:
        """Make the stream that sums on the device; None, with a report, if that is impossible."""
        if self.resident is None:
            return None
        if self.manifest.output.interpolated == "probabilities":
            self.report(f"{ON_PROCESSOR}: probabilities are interpolated there")
            return None
        self.resident.device.activate()
        try:
            stream = self._stream(0, self.resident)
        except BudgetError as error:
            self.report(f"{ON_PROCESSOR}: {error}")
            return None
        if stream.streams:
            return stream
        self.report(f"{ON_PROCESSOR}: splines of order above one resample the logits")
        return None

    def _stream(self, maps: int, device: DeviceNetwork | None = None) -> LabelStream:
        """Make the stream for labels, or for that many maps of probabilities."""
        prepared, output = self.prepared, self.manifest.output
        # The caller may hold the label map beside maps of probabilities.
        budget = MemoryBudget(
            self.budget_bytes,
            self.scan_bytes,
            math.prod(prepared.uncropped_shape),
            np.dtype(label_dtype(output)).itemsize,
            maps,
            0 if maps else postprocessing_bytes(self.postprocessing, prepared.uncropped_shape),
        )
        return LabelStream(
            prepared.image,
            self.manifest.tiling,
            output,
            LogitsGrid(
                prepared.cropped_shape,
                prepared.scan_spacing_mm,
                prepared.spacing_mm,
                prepared.resampling(self.manifest.preprocessing.logits_resampling),
            ),
            self.network,
            device=device,
            budget=budget,
            threads=self.threads,
        )

    def _all_probabilities(
        self, stream: LabelStream, channels: Sequence[int], progress: StepProgress
    ) -> Iterator[np.ndarray]:
        """Compute each map from all logits, resampled by a spline of higher order."""
        resampling = self.manifest.preprocessing.logits_resampling
        logits = restore_logits(
            stream.logits(progress), self.prepared, resampling, threads=self.threads
        )
        exclusive = not self.manifest.output.regions
        for channel in channels:
            planes = [
                to_probabilities(logits[:, z], [channel], exclusive=exclusive)[0]
                for z in range(logits.shape[1])
            ]
            yield np.stack(planes)
