"""The pipeline from a scan to its label map."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmaformer.runtime.backends import BackendOptions, open_session
from segmaformer.runtime.backends.onnxruntime_cpu import available_processors
from segmaformer.runtime.errors import CancelledError
from segmaformer.runtime.formats import read_scan
from segmaformer.runtime.label_stream import predict_labels
from segmaformer.runtime.memory import MIB, default_budget_bytes
from segmaformer.runtime.package import Package
from segmaformer.runtime.preprocessing import Preprocessed, preprocess, restore_labels
from segmaformer.runtime.probabilities import label_channel
from segmaformer.runtime.segmentation import Segmentation
from segmaformer.runtime.tiling import mirrored_mean
from segmaformer.runtime.volume import Volume

Progress = Callable[[str, int, int], None]
"""Called with the stage, the steps done and their number."""


class Predictor:
    """An open package, ready for many scans.

    Parameters
    ----------
    package
        From :meth:`Package.open`.
    backend, variant, options
        See :func:`segmaformer.runtime.backends.open_session`.
    tta
        Average the logits over the mirrored axes that the package allows: the cost
        doubles with each axis.
    memory_budget_mib
        MiB for what grows with the scan and the labels: the scan, its resampled image,
        logits and label map. The interpreter, ONNX Runtime and the activations of one
        tile come on top. None takes half of what the machine has free.
    report
        See :func:`segmaformer.runtime.backends.open_session`.

    Examples
    --------
    >>> predictor = Predictor(Package.open("brain.sgmf"))  # doctest: +SKIP
    >>> predictor.predict("scan.nii.gz").save("labels.nii.gz")  # doctest: +SKIP
    """

    def __init__(
        self,
        package: Package,
        backend: str = "auto",
        *,
        variant: str | None = None,
        tta: bool = False,
        memory_budget_mib: int | None = None,
        options: BackendOptions = BackendOptions(),  # noqa: B008  (frozen)
        report: Callable[[str], None] = lambda line: None,
    ):
        self.package = package
        self._mirror_axes = package.manifest.tiling.mirror_axes if tta else ()
        self._budget_bytes = (
            default_budget_bytes() if memory_budget_mib is None else memory_budget_mib * MIB
        )
        self._threads = options.threads or available_processors()
        self._session = open_session(
            package, backend=backend, variant=variant, options=options, report=report
        )

    @property
    def backend(self) -> str:
        """Backend, device and variant in use."""
        return self._session.description

    def predict(
        self,
        scan: Volume | str | Path | Sequence[str | Path],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Segmentation:
        """Segment one scan.

        Several threads may call this at once; the tiles of each run on all of the
        session's threads.

        Parameters
        ----------
        scan
            A volume, or the files to read it from: one, or one for each channel.
        progress
            Called as work proceeds.
        cancel
            Set it from another thread to stop before the next tile.

        Raises
        ------
        InputError, GeometryError
            The scan cannot be used, and why.
        BudgetError
            The memory budget does not suffice, and what would.
        BackendError
            The network failed.
        CancelledError
            `cancel` was set.
        """
        return self.segment(self.prepare(scan), progress=progress, cancel=cancel)

    def prepare(self, scan: Volume | str | Path | Sequence[str | Path]) -> Prepared:
        """Read and preprocess one scan, so that another thread may :meth:`segment` it."""
        seconds = dict[str, float]()
        with _timed(seconds, "read"):
            volume = scan if isinstance(scan, Volume) else self._read(scan)
        with _timed(seconds, "preprocess"):
            spec = self.package.manifest.preprocessing
            prepared = preprocess(volume, spec, threads=self._threads)
        return Prepared(volume, prepared, seconds)

    def segment(
        self,
        prepared: Prepared,
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Segmentation:
        """Segment a prepared scan; parameters and errors are those of :meth:`predict`."""
        seconds = dict(prepared.seconds)
        with _timed(seconds, "network and labels"):
            labels = self._predict(prepared, None, progress, cancel)
        return Segmentation(labels, prepared.volume, self.package.manifest, self.backend, seconds)

    def probability(
        self,
        prepared: Prepared,
        label: str,
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> np.ndarray:
        """Probability of one label at every voxel of the scan.

        The network runs again for each label, so that memory holds one map at a time.

        Parameters
        ----------
        prepared
            From :meth:`prepare`.
        label
            Name or value of a label, or of a region where the package has those.
        progress, cancel
            As for :meth:`predict`.

        Returns
        -------
        ndarray
            Shape (X, Y, Z) in the scan's storage order, float32, 0 where the scan was
            cropped away.

        Raises
        ------
        ValueError
            The package has no such label. Other errors are those of :meth:`predict`.
        """
        channel = label_channel(self.package.manifest.output, label)
        return self._predict(prepared, channel, progress, cancel)

    def _predict(
        self,
        prepared: Prepared,
        probability_of: int | None,
        progress: Progress | None,
        cancel: threading.Event | None,
    ) -> np.ndarray:
        def network(tiles: np.ndarray) -> np.ndarray:
            if cancel is not None and cancel.is_set():
                raise CancelledError("the prediction was cancelled")
            return mirrored_mean(self._session.run, tiles, self._mirror_axes)

        result = predict_labels(
            prepared.scan,
            self.package.manifest,
            network,
            budget_bytes=self._budget_bytes - prepared.volume.voxels.nbytes,
            threads=self._threads,
            progress=None if progress is None else _for_stage(progress, "tiles"),
            probability_of=probability_of,
        )
        return restore_labels(result, prepared.scan)

    def _read(self, scan: str | Path | Sequence[str | Path]) -> Volume:
        files = [scan] if isinstance(scan, str | Path) else scan
        channels = len(self.package.manifest.preprocessing.channels)
        return read_scan(files, channels=channels, budget_bytes=self._budget_bytes)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan that was read and preprocessed, and the seconds that took."""

    volume: Volume
    scan: Preprocessed
    seconds: dict[str, float]


def _for_stage(progress: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, count: progress(stage, done, count)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
