"""Choice of tiles to calibrate on, and tiles to judge by, from a folder of scans.

Scans go through the runtime's own reading, preprocessing and tiling. The choice depends only on
the seed, the files and the network.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from segmaformer.calibration.prepared_scan import PreparedScan, prepare_scan
from segmaformer.calibration.tile_choice import boxes_to_examine, choose_tiles, label_voxels
from segmaformer.calibration.tile_set import CalibrationTiles, ScanTiles, TileSet
from segmaformer.runtime.backends import BackendOptions, open_session, run_checked
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import EXACT_VARIANT
from segmaformer.runtime.package.reader import Package
from segmaformer.runtime.pipeline.labels import logits_to_labels
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.progress import Report, StepProgress
from segmaformer.runtime.scans.channels import ScanCase, group_channels
from segmaformer.runtime.scans.digest import sha256_of_scan
from segmaformer.runtime.spec import Box

ENOUGH_SCANS = 3
"""Fewest usable scans: two to see how scans differ, one to judge by."""


@dataclass(frozen=True)
class TileOptions:
    """Numbers of scans and tiles, and their choice.

    Attributes
    ----------
    scans, held_out
        Largest number of scans to calibrate on and to judge by; at most a third of all are held
        out.
    tiles
        Largest number of tiles in all, the same for each scan.
    seed
        Seed that decides which scans are taken and, in large scans, which tiles are examined.
    labels
        Folder of label maps named like the scans, used to find the foreground and to judge by;
        None uses only the float32 network's labels.
    accept_few
        Accept one or two scans. One is divided into tiles to calibrate on and others to judge by,
        which says little about further scans.
    reading
        Choices about reading the scans.
    """

    scans: int = 16
    held_out: int = 8
    tiles: int = 48
    seed: int = 0
    labels: Path | None = None
    accept_few: bool = False
    reading: ScanOptions = ScanOptions()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        if min(self.scans, self.held_out, self.tiles) < 1:
            raise ValueError(f"{self} has a number below 1; expected at least 1 of each")


def collect_tiles(
    package: Package,
    folder: Path,
    options: TileOptions = TileOptions(),
    *,
    threads: int | None = None,
    progress: StepProgress = lambda done, count: None,
    report: Report = lambda message: None,
) -> CalibrationTiles:
    """Choose tiles from the scans in `folder`.

    Parameters
    ----------
    package
        Package whose preprocessing, tiling and float32 network are used.
    folder
        Scans, named as :func:`segmaformer.runtime.scans.channels.group_channels` requires.
    options
        Numbers of scans and tiles, and the seed.
    threads
        Number of threads for one tile; None uses every processor this process may use.
    progress
        Called with the number of scans taken and their largest number.
    report
        Called with a line of text for each refusal of a scan or warning about it.

    Raises
    ------
    NotADirectoryError
        There is no such folder.
    InputError
        The folder holds no scans, too few usable ones, or nothing but background.
    """
    for path in (folder, options.labels or folder):
        if not path.is_dir():
            raise NotADirectoryError(f"there is no folder {path}; give one that holds scans")
    cases = group_channels(folder, channels=len(package.manifest.preprocessing.channels))
    wanted = min(len(cases), options.scans + _held_out(len(cases), options))
    collector = _Collector(package, options, -(-options.tiles // wanted), threads)
    for index in np.random.default_rng(options.seed).permutation(len(cases)).tolist():
        progress(len(collector.taken), wanted)
        if len(collector.taken) == wanted:
            break
        collector.add(cases[index], report)
    _check(collector, folder, options)
    return _divide(collector, options)


def _held_out(scans: int, options: TileOptions) -> int:
    return min(options.held_out, max(1, scans // ENOUGH_SCANS))


class _Collector:
    """Collector of scans one by one; their tiles go to an unnamed temporary file."""

    def __init__(
        self, package: Package, options: TileOptions, tiles_per_scan: int, threads: int | None
    ):
        self.taken: list[ScanTiles] = []
        self.refused: dict[str, str] = {}
        self._manifest, self._options = package.manifest, options
        self._tiles_per_scan = tiles_per_scan
        self._labels = 1 + max(label.value for label in package.manifest.output.labels)
        self._session = open_session(
            package,
            backend="onnxruntime",
            variant=EXACT_VARIANT,
            options=BackendOptions(threads=threads),
        )
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (mapped below)
        self._truth: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, case: ScanCase, report: Report) -> None:
        """Take tiles of a scan, or report why it cannot be used."""
        try:
            scan = prepare_scan(
                case,
                self._manifest,
                self._options.labels,
                options=self._options.reading,
                report=report,
            )
            self.taken.append(self._take(case, scan))
        except (InputError, OSError) as error:
            self.refused[case.name] = str(error)
            report(f"{case.name} is not used: {error}")

    def _take(self, case: ScanCase, scan: PreparedScan) -> ScanTiles:
        seed = hashlib.sha256(f"{self._options.seed} {case.name}".encode()).digest()
        random = np.random.default_rng([*seed])
        boxes = boxes_to_examine(scan.shape, self._manifest.tiling, self._tiles_per_scan, random)
        boxes = [box for box in boxes if np.ptp(scan.image[(slice(None), *box)]) > 0]
        if not boxes:
            raise InputError("every tile is constant; check that the scan holds an image")
        voxels = np.stack([self._voxels(scan, box) for box in boxes])
        chosen = choose_tiles(voxels, self._tiles_per_scan)
        for index in chosen:
            self._file.write(scan.image[(slice(None), *boxes[index])].tobytes())
            if self._options.labels is not None:
                self._truth.write(self._true_labels(scan, boxes[index]).tobytes())
        origins = [tuple(side.start for side in boxes[index]) for index in chosen]
        sha256 = {path.name: sha256_of_scan(path) for path in case.files}
        return ScanTiles(case, sha256, tuple((d, h, w) for d, h, w in origins), voxels[chosen])

    def _voxels(self, scan: PreparedScan, box: Box) -> np.ndarray:
        """Count the voxels of each label: the larger number of network and label map."""
        tile = np.ascontiguousarray(scan.image[(slice(None), *box)])
        logits = run_checked(self._session, tile[None])
        found = label_voxels(logits_to_labels(logits[0], self._manifest.output), self._labels)
        if scan.labels is None:
            return found
        return np.maximum(found, label_voxels(scan.labels[box], self._labels))

    def _true_labels(self, scan: PreparedScan, box: Box) -> np.ndarray:
        if scan.labels is None:
            return np.full(self._manifest.tiling.tile, -1, np.int32)
        return scan.labels[box].astype(np.int32)

    def all(self) -> TileSet:
        """Return every tile taken so far."""
        count = sum(len(scan.origins) for scan in self.taken)
        channels, tile = len(self._manifest.preprocessing.channels), self._manifest.tiling.tile
        for file in (self._file, self._truth):
            file.flush()
        tiles = np.memmap(self._file, np.float32, "r", shape=(count, channels, *tile))
        if self._options.labels is None:
            return TileSet(tiles, tuple(self.taken))
        truth = np.memmap(self._truth, np.int32, "r", shape=(count, *tile))
        return TileSet(tiles, tuple(self.taken), truth)


def _check(collector: _Collector, folder: Path, options: TileOptions) -> None:
    """Refuse too few scans, and tiles without any label."""
    usable = len(collector.taken)
    reasons = "; ".join(f"{name}: {why}" for name, why in collector.refused.items())
    refused = f" (not usable: {reasons:.500})" if reasons else ""
    if usable == 0:
        raise InputError(f"no scan in {folder} can be used{refused}")
    if usable < ENOUGH_SCANS and not options.accept_few:
        raise InputError(
            f"{folder} holds {usable} usable scan{'s' * (usable > 1)}{refused}; expected at least "
            f"{ENOUGH_SCANS}, two to calibrate on and one to judge by. Add scans, or give "
            "--accept-few"
        )
    if not sum(int(scan.voxels[:, 1:].sum()) for scan in collector.taken):
        raise InputError(
            f"the network finds no label on any tile from {folder}; give scans that show "
            "the structures it was trained for"
        )


def _divide(collector: _Collector, options: TileOptions) -> CalibrationTiles:
    """Hold out the last scans; divide a single one tile by tile."""
    taken, tiles = collector.taken, collector.all()
    notes = []
    if len(taken) == 1:
        notes.append(
            "calibrated on a single scan; the tiles held out are others of the same scan, so the "
            "figures say little about further scans"
        )
        calibration, held_out = _divided_scan(tiles)
    else:
        count = len(taken) - _held_out(len(taken), options)
        if count == 1:
            notes.append("calibrated on a single scan; ranges may not suit further scans")
        split = sum(len(scan.origins) for scan in taken[:count])
        calibration = tiles.part(slice(split), tuple(taken[:count]))
        held_out = tiles.part(slice(split, None), tuple(taken[count:]))
    notes += options.reading.notes()
    return CalibrationTiles(calibration, held_out, options.seed, collector.refused, tuple(notes))


def _divided_scan(tiles: TileSet) -> tuple[TileSet, TileSet]:
    (scan,) = tiles.scans
    if len(tiles.tiles) < ENOUGH_SCANS:
        raise InputError(
            f"{scan.case.name} is the only scan and has {len(tiles.tiles)} tiles; expected at "
            f"least {ENOUGH_SCANS}: add scans"
        )
    indices = np.arange(len(tiles.tiles))
    held = indices % ENOUGH_SCANS == ENOUGH_SCANS - 1
    calibration, held_out = (
        tiles.part(part, (_part(scan, indices[part].tolist()),)) for part in (~held, held)
    )
    return calibration, held_out


def _part(scan: ScanTiles, indices: Sequence[int]) -> ScanTiles:
    origins = tuple(scan.origins[index] for index in indices)
    return replace(scan, origins=origins, voxels=scan.voxels[[*indices]])
