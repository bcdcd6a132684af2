"""One preprocessed scan through a network: its labels or probabilities, within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segmaformer.runtime.device_lines import DeviceNetwork
from segmaformer.runtime.errors import BudgetError
from segmaformer.runtime.label_kernels import Logits, label_taps
from segmaformer.runtime.label_stream import BYTES, LabelStream
from segmaformer.runtime.labelling import label_dtype, logits_to_labels
from segmaformer.runtime.manifest import Manifest
from segmaformer.runtime.preprocessing import Preprocessed, restore_logits
from segmaformer.runtime.probabilities import to_probabilities
from segmaformer.runtime.tile_feed import TileNetwork
from segmaformer.runtime.tiling import predict_logits

ON_PROCESSOR = "logits are copied back and summed by the processor"
"""What is said where they could have been summed on a device."""

Progress = Callable[[int, int], None]
"""Called with the tiles done and their number."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A preprocessed scan, what predicts it, and the memory for that.

    Attributes
    ----------
    prepared
        From :func:`segmaformer.runtime.preprocessing.preprocess`.
    manifest
        Of the package.
    network
        What runs the tiles.
    budget_bytes
        For scan, image, logits and labels.
    scan_bytes
        What the scan holds of that.
    threads
        For blending and interpolation.
    resident
        What runs the tiles for labels where logits are summed on a device.
    report
        Called with a line if they are not, although there is `resident`.
    """

    prepared: Preprocessed
    manifest: Manifest
    network: TileNetwork
    budget_bytes: int
    scan_bytes: int
    threads: int
    resident: DeviceNetwork | None = None
    report: Callable[[str], None] = lambda line: None

    def check_budget(self) -> None:
        """Raise BudgetError, with the least that would do, if :meth:`labels` would."""
        self._stream(0)

    def labels(self, progress: Progress) -> np.ndarray:
        """Labels on the cropped grid of the scan.

        Returns
        -------
        np.ndarray
            Shape ``prepared.cropped_shape``, uint8 or uint16.

        Raises
        ------
        BudgetError
            The budget does not suffice; the error says the least that would.
        """
        stream = self._resident_stream() or self._stream(0)
        if stream is not None:
            return stream.labels(progress)
        return logits_to_labels(self._all_logits(progress), self.manifest.output)

    def probabilities(self, channels: Sequence[int], progress: Progress) -> Iterator[np.ndarray]:
        """Probabilities of some channels, several from one pass where the budget allows.

        Parameters
        ----------
        channels
            At least one.
        progress
            Called with the tiles done and their number.

        Yields
        ------
        np.ndarray
            For each channel, shape ``prepared.cropped_shape``, float32.

        Raises
        ------
        BudgetError
            As for :meth:`labels`.
        """
        together, stream = self._fewest_tiles(len(channels))
        if stream is None:
            yield from self._all_probabilities(channels, progress)
            return
        groups = [channels[first : first + together] for first in range(0, len(channels), together)]
        for index, group in enumerate(groups):

            def report(done: int, count: int, before: int = index) -> None:
                progress(before * count + done, len(groups) * count)

            maps = stream.probabilities(group, report)
            yield from maps
            del maps  # before the next group takes as much

    def _fewest_tiles(self, maps: int) -> tuple[int, LabelStream | None]:
        """How many maps to compute in one pass, and the stream that does."""
        streams = [self._stream(1)]
        for together in range(2, maps + 1):
            try:
                streams.append(self._stream(together))
            except BudgetError:
                break
        # More maps in one pass leave less memory for logits, which may cost tiles.
        runs = [
            math.ceil(maps / together) * (0 if stream is None else stream.tile_runs)
            for together, stream in enumerate(streams, start=1)
        ]
        fewest = runs.index(min(runs))
        return fewest + 1, streams[fewest]

    def _resident_stream(self) -> LabelStream | None:
        """The stream whose sums are on the device; None, said why, if they cannot be there."""
        if self.resident is None:
            return None
        self.resident.device.activate()
        reason = "splines of order above one resample the logits"
        try:
            stream = self._stream(0, self.resident)
        except BudgetError as error:
            stream, reason = None, str(error)
        if stream is None:
            self.report(f"{ON_PROCESSOR}: {reason}")
        return stream

    def _stream(self, maps: int, device: DeviceNetwork | None = None) -> LabelStream | None:
        """The stream beside that many maps of probabilities; None if all logits are needed."""
        prepared, output = self.prepared, self.manifest.output
        _, depth, height, width = prepared.image.shape
        voxels = math.prod(prepared.cropped_shape)
        label_bytes = np.dtype(label_dtype(output)).itemsize
        # A result exists once on the cropped grid and once in the order of the file; beside
        # probabilities the caller may hold the label map.
        results = (label_bytes + (maps + 1) * BYTES) if maps else 2 * label_bytes
        taken = self.scan_bytes + prepared.image.nbytes + voxels * results
        taps = label_taps(
            (depth, height, width),
            prepared.cropped_shape,
            spacing_mm=prepared.spacing_mm,
            new_spacing_mm=prepared.scan_spacing_mm,
            resampling=self.manifest.preprocessing.logits_resampling,
        )
        if taps is not None:
            return LabelStream(
                prepared.image,
                self.manifest.tiling,
                output,
                taps,
                self.network,
                device=device,
                budget_bytes=self.budget_bytes,
                taken_bytes=taken,
                threads=self.threads,
            )
        # Splines of higher order reach across the whole scan: all logits are needed at once.
        needed = taken + output.channels * BYTES * (voxels + 2 * depth * height * width)
        if needed > self.budget_bytes:
            what = "scan, image, labels and logits, which a spline of order above one resamples,"
            raise BudgetError(what, self.budget_bytes, needed)
        return None

    def _all_logits(self, progress: Progress) -> Logits:
        """Logits on the cropped grid."""
        manifest = self.manifest
        logits = predict_logits(
            self.prepared.image,
            manifest.tiling,
            self.network.run,
            manifest.output.channels,
            progress=progress,
        )
        resampling = manifest.preprocessing.logits_resampling
        return restore_logits(logits, self.prepared, resampling, threads=self.threads)

    def _all_probabilities(
        self, channels: Sequence[int], progress: Progress
    ) -> Iterator[np.ndarray]:
        logits = self._all_logits(progress)
        exclusive = not self.manifest.output.regions
        for channel in channels:
            planes = [
                to_probabilities(logits[:, z], [channel], exclusive=exclusive)[0]
                for z in range(logits.shape[1])
            ]
            yield np.stack(planes)
