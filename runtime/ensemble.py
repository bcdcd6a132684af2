"""Ensemble of packages: the mean of their probabilities decides each voxel.

nnU-Net averages the probabilities of several configurations on the scan's grid, in float32, and
takes the largest; of regions, those above one half. Here the members run one after the other, and
their logits on their own grids are kept, from which slabs of the scan are averaged. Where the
memory budget does not hold all these logits, it decides how many labels are averaged at once, and
the members run again for the next ones. The labels are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segmaformer.runtime.backends import NetworkKind
from segmaformer.runtime.errors import BudgetError, InputError
from segmaformer.runtime.package.manifest import Manifest
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.labels import label_dtype
from segmaformer.runtime.pipeline.postprocessing import postprocess
from segmaformer.runtime.pipeline.probabilities import label_channel
from segmaformer.runtime.pipeline.stored_logits import StoredLogits
from segmaformer.runtime.predictor import Predictor, Prepared, timed
from segmaformer.runtime.progress import Progress
from segmaformer.runtime.results.segmentation import Segmentation
from segmaformer.runtime.scans.volume import Volume
from segmaformer.runtime.spec import KeepLargest, Output
from segmaformer.runtime.system.interruption import check, ended_by

Map = npt.NDArray[np.float32]


class Ensemble:
    """Several packages that segment together, used as a :class:`Predictor` is.

    Parameters
    ----------
    packages
        At least two packages of the same channels and labels.
    backend, memory_budget_mib, options
        As for :class:`Predictor`. With a budget, only one network is open at a time.

    Raises
    ------
    InputError
        The packages differ in channels, in labels or regions, or in the postprocessing that is to
        be applied.
    """

    def __init__(
        self,
        packages: Sequence[Package],
        backend: str = "auto",
        *,
        memory_budget_mib: int | None = None,
        **options: Any,
    ):
        self.packages = tuple(packages)
        self.package = self.packages[0]
        for other in self.packages[1:]:
            _check_same(self.package.manifest, other.manifest)
        self._in_turn = memory_budget_mib is not None
        self.members: list[Predictor] = []
        for package in self.packages:
            self.members.append(
                Predictor(package, backend, memory_budget_mib=memory_budget_mib, **options)
            )
            self._end_turns()
        first = self.members[0]
        self.nan_to, self.where, self.keep_tilt = first.nan_to, first.where, first.keep_tilt
        self.postprocessing = _same_steps(self.members)
        axes = {axis for member in self.members for axis in member.mirrored_axes}
        self.mirrored_axes = tuple(sorted(axes))

    @property
    def backend(self) -> str:
        """Backend, device and variant in use, of every member if they differ."""
        return " + ".join(dict.fromkeys(member.backend for member in self.members))

    @property
    def networks(self) -> tuple[NetworkKind, ...]:
        """Backend, device, variant and precision of every network, member after member."""
        return tuple(kind for member in self.members for kind in member.networks)

    def prepare(self, scan: Volume | str | Path | Sequence[str | Path]) -> Prepared:
        """Read and preprocess a scan, see :meth:`Predictor.prepare`; for the first member."""
        return self.members[0].prepare(scan)

    def segment(
        self,
        prepared: Prepared,
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Segmentation:
        """Segment a prepared scan; parameters and errors are those of :meth:`Predictor.predict`."""
        seconds = dict(prepared.seconds)
        with timed(seconds, "networks and labels"):
            labels = self._labels(prepared, progress, cancel)
            with ended_by(cancel):
                postprocess(labels, self.postprocessing)
        return Segmentation(
            labels,
            prepared.volume,
            dataclasses.replace(self.package.manifest, name=self.name),
            self.backend,
            seconds,
            self.mirrored_axes,
            self.sha256,
            self.postprocessing,
        )

    def probabilities(
        self,
        prepared: Prepared,
        labels: Sequence[str],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Map]:
        """Compute mean probabilities of some labels, see :meth:`Predictor.probabilities`."""
        output = self.package.manifest.output
        channels = [label_channel(output, label) for label in labels]
        return self._means(prepared, channels, 0, progress, cancel)

    @property
    def name(self) -> str:
        """Names of all members."""
        return " + ".join(package.manifest.name for package in self.packages)

    @property
    def sha256(self) -> str:
        """SHA-256 of the members' own, a line each."""
        lines = "".join(f"{package.manifest_sha256}\n" for package in self.packages)
        return hashlib.sha256(lines.encode()).hexdigest()

    def _labels(
        self, prepared: Prepared, progress: Progress | None, cancel: threading.Event | None
    ) -> np.ndarray:
        """Decide each voxel by the largest mean; of regions, by those above one half."""
        stored = self._stored(prepared, progress, cancel)
        if stored is None:
            return self._labels_in_turn(prepared, progress, cancel)
        output = self.package.manifest.output
        labels = np.zeros(prepared.volume.shape, label_dtype(output))
        axis = stored[0].grid.reorientation.axes[0]
        step = _slab_slices(prepared.volume, output, axis)
        for begin in range(0, labels.shape[axis], step):
            with ended_by(cancel):
                check()
            end = min(begin + step, labels.shape[axis])
            mean = stored[0].probabilities(axis, begin, end)
            for other in stored[1:]:
                mean += other.probabilities(axis, begin, end)
            mean /= len(stored)
            slab = np.moveaxis(labels, axis, 0)[begin:end]
            _decide(mean, output, np.moveaxis(slab, 0, axis))
        return labels

    def _stored(
        self, prepared: Prepared, progress: Progress | None, cancel: threading.Event | None
    ) -> list[StoredLogits] | None:
        """Compute all members' logits; None if the budget does not hold them at once.

        Nor are they of use for a scan that is straightened, as its maps are interpolated again.
        """
        if prepared.straightening is not None:
            return None
        volume, output = prepared.volume, self.package.manifest.output
        held_bytes = prepared.scan.image.nbytes  # which the caller keeps
        held_bytes += _slabs_bytes(volume, output)
        try:
            needed = held_bytes
            for member in self.members:
                needed += member.check_stored_logits(volume, needed)
        except BudgetError:
            return None
        stored: list[StoredLogits] = []
        for number, member in enumerate(self.members):
            logits = member.stored_logits(
                member.prepare(volume) if number else prepared,
                held_bytes=held_bytes,
                progress=_part(progress, number, len(self.members)),
                cancel=cancel,
            )
            self._end_turns()
            if logits is None:
                return None
            stored.append(logits)
            held_bytes += logits.logits.nbytes
        return stored

    def _labels_in_turn(
        self, prepared: Prepared, progress: Progress | None, cancel: threading.Event | None
    ) -> np.ndarray:
        """Decide by the means of some labels after the other."""
        output = self.package.manifest.output
        labels = np.zeros(prepared.volume.shape, label_dtype(output))
        best = np.zeros(0 if output.regions else labels.shape, np.float32)
        means = self._means(prepared, [*range(output.channels)], best.nbytes, progress, cancel)
        for channel, mean in enumerate(means):
            if output.regions:
                labels[mean > 0.5] = output.regions[channel].value
            else:
                labels[mean > best] = channel
                np.maximum(best, mean, out=best)
        return labels

    def _means(
        self,
        prepared: Prepared,
        channels: Sequence[int],
        held_bytes: int,
        progress: Progress | None,
        cancel: threading.Event | None,
    ) -> Iterator[Map]:
        """Compute the mean for each channel, for as many at once as the budget holds."""
        held_bytes += prepared.scan.image.nbytes  # which the caller keeps
        together = self._together(prepared.volume, len(channels), held_bytes)
        groups = [channels[i : i + together] for i in range(0, len(channels), together)]
        runs = len(groups) * len(self.members)
        for index, group in enumerate(groups):
            means: list[Map] = []
            for number, member in enumerate(self.members):
                run = index * len(self.members) + number
                own = member.prepare(prepared.volume) if run else prepared
                maps = member.maps(
                    own,
                    group,
                    progress=_part(progress, run, runs),
                    cancel=cancel,
                    held_bytes=held_bytes + (1 + len(group)) * _map_bytes(prepared.volume),
                )
                _add(means, maps)
                del own, maps
                self._end_turns()
            while means:
                mean = means.pop(0)
                mean /= len(self.members)
                yield mean

    def _together(self, volume: Volume, channels: int, held_bytes: int) -> int:
        """Return the number of means that the budget holds beside any member's work."""
        together = channels
        while True:
            held = held_bytes + (1 + together) * _map_bytes(volume)
            try:
                for member in self.members:
                    member.check_maps(volume, held)
            except BudgetError:
                if together == 1:
                    raise
                together = -(-together // 2)
            else:
                return together

    def _end_turns(self) -> None:
        if self._in_turn:
            for member in self.members:
                member.close()


def _check_same(first: Manifest, other: Manifest) -> None:
    for title, found, expected in (
        ("channels", other.preprocessing.channels, first.preprocessing.channels),
        ("labels", other.output, first.output),
    ):
        if found != expected:
            raise InputError(
                f"{other.name} and {first.name} differ in {title}, so their probabilities have no "
                f"mean; give packages of one data set"
            )


def _same_steps(members: Sequence[Predictor]) -> tuple[KeepLargest, ...]:
    """Return the postprocessing of all members: nnU-Net determines it for an ensemble anew."""
    first, *others = (member.postprocessing for member in members)
    if any(other != first for other in others):
        raise InputError(
            "the packages list different postprocessing; export each with the postprocessing.json "
            "of the ensemble (--postprocessing), or leave it out (--no-postprocessing)"
        )
    return first


_SLABS = 4
"""Slabs of all probabilities in memory at once: the sum, a member's, and two while it is made."""
_SLAB_BYTES = 16 << 20


def _slab_slices(volume: Volume, output: Output, axis: int) -> int:
    """Return the number of slices across an axis that are averaged at once."""
    slice_bytes = output.channels * _map_bytes(volume) // volume.shape[axis]
    return max(1, _SLAB_BYTES // slice_bytes)


def _slabs_bytes(volume: Volume, output: Output) -> int:
    """Return the memory that slabs take at most, whatever their axis, in bytes."""
    whole = output.channels * _map_bytes(volume)
    return _SLABS * min(whole, max(_SLAB_BYTES, whole // min(volume.shape)))


def _decide(mean: Map, output: Output, labels: np.ndarray) -> None:
    """Fill labels (X, Y, Z) from mean probabilities (K, X, Y, Z)."""
    if not output.regions:
        labels[...] = mean.argmax(0)
    for values, region in zip(mean, output.regions, strict=False):
        labels[values > 0.5] = region.value


def _map_bytes(volume: Volume) -> int:
    return 4 * math.prod(volume.shape)


def _add(means: list[Map], maps: Iterator[Map]) -> None:
    """Add a member's maps to the sums; the first member's become them."""
    if not means:
        means.extend(maps)
        return
    for mean, values in zip(means, maps, strict=True):
        mean += values


def _part(progress: Progress | None, run: int, runs: int) -> Progress | None:
    """Return the progress of one run of several."""
    if progress is None:
        return None
    report: Callable[[str, int, int], None] = progress
    return lambda stage, done, count: report(stage, run * count + done, runs * count)
