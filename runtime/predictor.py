"""Pipeline from a scan to its label map."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmaformer.runtime.backends import (
    BackendOptions,
    NetworkKind,
    open_session,
)
from segmaformer.runtime.bindings.processors import available_processors
from segmaformer.runtime.open_network import OpenNetwork
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.admission import Admission, never_run
from segmaformer.runtime.pipeline.labels import label_dtype
from segmaformer.runtime.pipeline.postprocessing import postprocess
from segmaformer.runtime.pipeline.prediction import Prediction
from segmaformer.runtime.pipeline.preprocessing import (
    Preprocessed,
    empty_map,
    network_grid,
    preprocess,
    restore_map,
    with_masks,
)
from segmaformer.runtime.pipeline.probabilities import label_channel, outside_crop
from segmaformer.runtime.pipeline.stored_logits import StoredLogits, stored_bytes
from segmaformer.runtime.pipeline.straightening import (
    Straightening,
    find_straightening,
    straight_within,
)
from segmaformer.runtime.progress import Progress, Report, StepProgress
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.volume import Volume, check_replacement_value
from segmaformer.runtime.system.interruption import ended_by
from segmaformer.runtime.system.memory import budget_bytes


class Predictor:
    """An open package, ready for many scans.

    Parameters
    ----------
    package
        Package, see :meth:`Package.open`. A cascade's networks run one after the other.
    backend, variant, options
        See :func:`segmaformer.runtime.backends.open_session`.
    tta
        Average the logits over the mirrored axes that the package allows: the cost doubles with
        each axis.
    memory_budget_mib
        Memory for data that grow with the scan and the labels, in MiB: the scan, its resampled
        image, logits and label map. The interpreter, ONNX Runtime and the activations of one tile
        come on top. None uses half of the free memory. With a number, only one network of a cascade
        is open at a time: each opens anew for every scan.
    nan_to
        Replaces voxels that are NaN or infinite; None refuses such scans.
    where
        Conditions ``KEYWORD=VALUE`` on the images of folders with several DICOM series.
    keep_tilt
        Give the network a tilted DICOM series as it is. Otherwise it sees the series straightened;
        labels lie on the original images in both cases.
    postprocessing
        Apply the steps on the label map that the package lists. Probabilities stay as they are.
    report
        See :func:`segmaformer.runtime.backends.open_session`; also called with a line if logits
        leave the device although they could be summed there, and by :meth:`predict` with warnings
        about a scan's files.

    Attributes
    ----------
    mirrored_axes
        Axes over which `tta` averages; empty without it.
    postprocessing
        Steps that are applied.
    network
        Open network that the tiles run in.

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
        nan_to: float | None = None,
        where: Sequence[str] = (),
        keep_tilt: bool = False,
        postprocessing: bool = True,
        options: BackendOptions = BackendOptions(),  # noqa: B008  (frozen)
        report: Report = lambda line: None,
    ):
        self.package = package
        if nan_to is not None:
            check_replacement_value(nan_to)
        self.nan_to = nan_to
        self.where = tuple(where)
        self.keep_tilt = keep_tilt
        self.mirrored_axes = package.manifest.tiling.mirror_axes if tta else ()
        self.postprocessing = package.manifest.postprocessing if postprocessing else ()
        self._budget_bytes = budget_bytes(memory_budget_mib)
        self._threads = options.threads or available_processors()
        self._report = report
        self.network = OpenNetwork(
            lambda: open_session(
                package, backend=backend, variant=variant, options=options, report=report
            ),
            self.mirrored_axes,
            report,
        )
        self._admission = Admission(
            package.manifest,
            self._budget_bytes,
            dataclasses.replace(self.network.on_processor(None), run=never_run),
            self._threads,
        )
        self._first: Predictor | None = None
        first = package.previous_stage()
        self._one_at_a_time = first is not None and memory_budget_mib is not None
        if self._one_at_a_time:
            self.close()
        if first is not None:
            self._first = Predictor(
                first,
                backend,
                variant=variant,
                tta=tta,
                memory_budget_mib=memory_budget_mib,
                options=options,
                report=report,
            )

    @property
    def backend(self) -> str:
        """Backend, device and variant in use; of both networks of a cascade, if they differ."""
        if self._first is None or self._first.backend == self.network.description:
            return self.network.description
        return f"{self._first.backend}, then {self.network.description}"

    @property
    def networks(self) -> tuple[NetworkKind, ...]:
        """Backend, device, variant and precision of the network; of both of a cascade."""
        return (*(() if self._first is None else self._first.networks), self.network.kind)

    def predict(
        self,
        scan: Volume | str | Path | Sequence[str | Path],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Segmentation:
        """Segment one scan.

        Several threads may call this at once; the tiles of each run on all of the session's
        threads.

        Parameters
        ----------
        scan
            Volume, or the files to read it from: one, or one for each channel. A folder of DICOM
            files counts as one.
        progress
            Called as work proceeds.
        cancel
            Event to set from another thread to stop: in ONNX Runtime and OpenVINO in the middle of
            a tile, else before the next.

        Raises
        ------
        InputError, GeometryError
            The scan cannot be used; the message says why.
        BudgetError
            The memory budget does not suffice; the message states what would.
        BackendError
            The network failed.
        CancelledError
            `cancel` was set.
        """
        prepared = self.prepare(scan)
        for remark in prepared.volume.remarks:
            self._report(f"warning: {remark.what}. {remark.fix}")
        return self.segment(prepared, progress=progress, cancel=cancel)

    def prepare(self, scan: Volume | str | Path | Sequence[str | Path]) -> Prepared:
        """Read and preprocess one scan, so that another thread may :meth:`segment` it."""
        seconds = dict[str, float]()
        with timed(seconds, "read"):
            volume = self._read(scan)
        straightening = self._straightening(volume)
        with timed(seconds, "preprocess"):
            straight = self._straight(volume, straightening)
            first = self._first or self
            prepared = preprocess(
                straight,
                first.package.manifest.preprocessing,
                threads=self._threads,
                admit=lambda grid: first._admission.check(straight, grid),  # noqa: SLF001 -- a predictor too
            )
            second = None if self._first is None else self._grid(straight)
            if second is not None:
                self._admission.check(straight, second, held_bytes=prepared.image.nbytes)
        return Prepared(volume, prepared, seconds, straightening, second)

    def segment(
        self,
        prepared: Prepared,
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Segmentation:
        """Segment a prepared scan; parameters and errors are those of :meth:`predict`."""
        seconds = dict(prepared.seconds)
        scan, held_bytes = self._network_input(prepared, seconds, progress, cancel)
        with timed(seconds, "network and labels"):
            labels = self._labels(scan, held_bytes, _for_stage(progress, "tiles"), cancel)
            if self._one_at_a_time:
                self.close()
            if prepared.straightening is not None:
                labels = prepared.straightening.sheared(labels)
            with ended_by(cancel):
                postprocess(labels, self.postprocessing)
        return Segmentation(
            labels,
            prepared.volume,
            self.package.manifest,
            self.backend,
            seconds,
            self.mirrored_axes,
            self.package.manifest_sha256,
            self.postprocessing,
        )

    def probabilities(
        self,
        prepared: Prepared,
        labels: Sequence[str],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[np.ndarray]:
        """Compute probabilities of some labels at every voxel of the scan, one map after the other.

        The network runs once for as many labels as the memory budget holds maps of.

        Parameters
        ----------
        prepared
            Prepared scan, from :meth:`prepare`.
        labels
            Names or values of labels, or of regions if the package has those.
        progress, cancel
            As for :meth:`predict`.

        Yields
        ------
        ndarray
            Map for each label, shape (X, Y, Z) in the scan's storage order, float32, from 0 to 1.
            Where the scan was cropped away, background is certain.

        Raises
        ------
        ValueError
            The package has no such label. Other errors are those of :meth:`predict`.
        """
        output = self.package.manifest.output
        channels = [label_channel(output, label) for label in labels]
        return self.maps(prepared, channels, progress=progress, cancel=cancel)

    def maps(
        self,
        prepared: Prepared,
        channels: Sequence[int],
        *,
        held_bytes: int = 0,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[np.ndarray]:
        """Compute :meth:`probabilities` of some channels of the logits.

        `held_bytes` is memory of the budget that the caller holds beside the scan and a label map.
        """
        output = self.package.manifest.output
        scan, held_bytes = self._network_input(prepared, {}, progress, cancel, held_bytes)
        prediction = self._prediction(scan, held_bytes, cancel)
        maps = prediction.probabilities(channels, _for_stage(progress, "tiles"))
        whole = (
            restore_map(values, scan, outside=outside_crop(output, channel))
            for channel, values in zip(channels, maps, strict=True)
        )
        straightening = prepared.straightening
        return whole if straightening is None else map(straightening.sheared, whole)

    def stored_logits(
        self,
        prepared: Prepared,
        *,
        held_bytes: int = 0,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> StoredLogits | None:
        """Compute all logits on the network's grid, see :meth:`Prediction.logits`."""
        scan, held_bytes = self._network_input(prepared, {}, progress, cancel, held_bytes)
        prediction = self._prediction(scan, held_bytes, cancel)
        return prediction.logits(_for_stage(progress, "tiles"))

    def check_stored_logits(self, volume: Volume, held_bytes: int) -> int:
        """Return the bytes of :meth:`stored_logits`.

        Raises
        ------
        BudgetError
            The budget does not hold them beside `held_bytes` and what computes them.
        """
        grid = self._grid(volume)
        stored = stored_bytes(self.package.manifest.output, grid)
        if self._first is not None:
            spec = self._first.package.manifest.preprocessing
            held_bytes += network_grid(volume, spec, whole=False).image.nbytes
        self._admission.check(volume, grid, held_bytes=held_bytes + stored)
        return stored

    def check_maps(self, volume: Volume, held_bytes: int) -> None:
        """Raise BudgetError if the budget does not hold one map of :meth:`maps` at a time."""
        straight = self._straight(volume, self._straightening(volume))
        if self._first is not None:
            spec = self._first.package.manifest.preprocessing
            held_bytes += network_grid(straight, spec, whole=False).image.nbytes
        self._admission.check(straight, held_bytes=held_bytes, maps=1)

    def close(self) -> None:
        """Free the memory of the network, and of a cascade's first; they open again when used."""
        self.network.close()
        if self._first is not None:
            self._first.close()

    def _straightening(self, volume: Volume) -> Straightening | None:
        return None if self.keep_tilt else find_straightening(volume)

    def _network_input(
        self,
        prepared: Prepared,
        seconds: dict[str, float],
        progress: Progress | None,
        cancel: threading.Event | None,
        held_bytes: int = 0,
    ) -> tuple[Preprocessed, int]:
        """Return the image for the package's network, and the bytes in memory beside it.

        In a cascade, the first network runs here.
        """
        held_bytes += prepared.volume.voxels.nbytes
        stage, grid = self.package.manifest.previous_stage, prepared.second_grid
        if self._first is None or stage is None or grid is None:
            return prepared.scan, held_bytes
        with timed(seconds, "previous stage"):
            labels = self._first._labels(  # noqa: SLF001 -- a predictor too
                prepared.scan, held_bytes, _for_stage(progress, "previous stage"), cancel
            )
            if self._one_at_a_time:
                self._first.close()
        with timed(seconds, "masks"), ended_by(cancel):
            straight = self._straight(prepared.volume, prepared.straightening)
            spec = self.package.manifest.preprocessing
            image = with_masks(straight, spec, grid, labels, stage, threads=self._threads)
        return image, held_bytes + prepared.scan.image.nbytes

    def _grid(self, volume: Volume) -> Preprocessed:
        """Find the grid of the network, of a cascade's second one."""
        manifest = self.package.manifest
        return network_grid(volume, manifest.preprocessing, whole=False, masks=manifest.masks)

    def _labels(
        self,
        scan: Preprocessed,
        held_bytes: int,
        progress: StepProgress,
        cancel: threading.Event | None,
    ) -> np.ndarray:
        """Compute the label map of an image, in the order in which the scan is stored."""
        labels, cropped = empty_map(scan, label_dtype(self.package.manifest.output))
        self._prediction(scan, held_bytes, cancel).labels(progress, cropped)
        return labels

    def _straight(self, volume: Volume, straightening: Straightening | None) -> Volume:
        """Return a tilted volume on its straight grid, if the budget holds both."""
        return straight_within(volume, straightening, self._budget_bytes)

    def _prediction(
        self, scan: Preprocessed, held_bytes: int, cancel: threading.Event | None
    ) -> Prediction:
        return Prediction(
            scan,
            self.package.manifest,
            self.network.on_processor(cancel),
            budget_bytes=self._budget_bytes,
            scan_bytes=held_bytes,
            threads=self._threads,
            postprocessing=self.postprocessing,
            resident=self.network.on_device(cancel),
            report=self._report,
        )

    def _read(self, scan: Volume | str | Path | Sequence[str | Path]) -> Volume:
        if isinstance(scan, Volume):
            return scan if self.nan_to is None else scan.with_finite_voxels(self.nan_to)
        files = [scan] if isinstance(scan, str | Path) else scan
        return self._admission.read(files, nan_to=self.nan_to, where=self.where)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan that was read and preprocessed.

    Attributes
    ----------
    volume
        The scan as it was read.
    scan
        The scan on the network's grid; of a cascade, the first network's.
    seconds
        Wall time of each stage in seconds, by name.
    straightening
        Straightening of the scan before it was preprocessed; None if there was none.
    second_grid
        Grid of a cascade's second network; None without one.
    """

    volume: Volume
    scan: Preprocessed
    seconds: dict[str, float]
    straightening: Straightening | None = None
    second_grid: Preprocessed | None = None


def _for_stage(progress: Progress | None, stage: str) -> StepProgress:
    return lambda done, count: None if progress is None else progress(stage, done, count)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall time of a block to `seconds`, as a stage's."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
