"""Calibration of a package's int8 variants on a folder of scans."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import segmaformer
from segmaformer.calibration.flavours import FLAVOURS, Flavour
from segmaformer.calibration.harm_picture import write_harm_picture
from segmaformer.calibration.judge import Judge
from segmaformer.calibration.measurement import Measurement, measure
from segmaformer.calibration.ranges import RangeMethod
from segmaformer.calibration.scores.gate import Gate
from segmaformer.calibration.search import Placed, best_placement
from segmaformer.calibration.statistics import ObservationOptions
from segmaformer.calibration.tiles import TileOptions
from segmaformer.runtime.backends.onnxruntime_cpu import import_onnxruntime
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.card import model_card
from segmaformer.runtime.package.manifest import Manifest, Variant
from segmaformer.runtime.package.reader import Package, read_signatures
from segmaformer.runtime.package.signatures import KEY_RINGS, Trust
from segmaformer.runtime.package.writer import finish_replacing, staged_package, write_files
from segmaformer.runtime.progress import Progress, Report

CARD_FILE = "card.md"


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of a calibration.

    Attributes
    ----------
    tiles
        Numbers of scans and tiles, and their choice.
    method
        Method that chooses ranges.
    gate
        Bounds that int8 must keep over all held-out tiles.
    sensitivity
        Measure the harm of every layer alone, even if all of them pass together.
    picture
        PNG for a chart of every layer's harm and saving; implies `sensitivity`.
    budget_mib
        Memory for the activations of one run, in MiB.
    threads
        Number of threads for one tile; None uses every processor this process may use.
    overwrite
        Replace the int8 variants of an earlier calibration.
    resumable
        Keep the progress in a file beside the package until all is done.
    names
        Write the names of scans into the manifest, besides their SHA-256.
    trust
        What is asked of the package's signature, as for :meth:`Package.open`.
    """

    tiles: TileOptions = TileOptions()  # noqa: RUF009  (frozen)
    method: RangeMethod = "mse"
    gate: Gate = Gate()  # noqa: RUF009  (frozen)
    sensitivity: bool = False
    picture: Path | None = None
    budget_mib: int = 512
    threads: int | None = None
    overwrite: bool = False
    resumable: bool = True
    names: bool = False
    trust: Trust | None = KEY_RINGS


def calibrate(
    path: Path,
    folder: Path,
    options: CalibrationOptions = CalibrationOptions(),
    *,
    progress: Progress = lambda stage, done, count: None,
    report: Report = lambda message: None,
) -> Package:
    """Add int8 variants to the package at `path`, all of them or none.

    An interrupted calibration leaves the package as it was, and beside it a file from which the
    next one continues. A calibration killed while it put the new package in place may leave the old
    one moved aside: the next calibration or export puts it back.

    Parameters
    ----------
    path
        Package directory.
    folder
        Scans to calibrate on, laid out as for ``sgmf infer``.
    options
        See :class:`CalibrationOptions`.
    progress
        Called with the stage, the steps done and their number.
    report
        Called with a line of text about each notable fact.

    Returns
    -------
    Package
        The package with its new variants, opened.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such package or folder.
    PackageError
        `path` is no valid package.
    FileExistsError
        The package has int8 variants, and `overwrite` is off.
    InputError
        The scans are unsuitable; the message says why.
    ParityError
        No placement of an int8 variant passes; nothing is written.
    PermissionError
        Nothing can be written beside the package.
    """
    finish_replacing(path)
    package = Package.open(path, options.trust)
    if package.manifest.previous_stage is not None:
        raise InputError(f"{path} is a cascade, whose networks have no int8 variants")
    _check_uncalibrated(package, overwrite=options.overwrite)
    if options.picture is not None and not options.picture.parent.is_dir():
        raise NotADirectoryError(f"there is no folder {options.picture.parent} for the picture")
    signed = read_signatures(path) is not None
    state = path.with_name(f".{path.name}.calibration.npz") if options.resumable else None
    with staged_package(path, overwrite=True) as staging:
        measurement = measure(
            package,
            folder,
            tiles=options.tiles,
            method=options.method,
            observation=ObservationOptions(options.budget_mib, options.threads, state),
            progress=progress,
            report=report,
        )
        judge = Judge(
            measurement.tiles.held_out,
            measurement.model,
            package.manifest.output,
            threads=options.threads,
        )
        placed = [
            _place(flavour, measurement, judge, options, progress, report) for flavour in FLAVOURS
        ]
        write_variants(staging, package, measurement, options.gate, placed, names=options.names)
    if options.picture is not None:
        write_harm_picture(options.picture, placed, title=package.manifest.name)
    if state is not None:
        state.unlink(missing_ok=True)
    if signed:
        report(f"{path} is no longer signed, since it changed: sign it again with sgmf sign")
    return Package.open(path, None)


def _check_uncalibrated(package: Package, *, overwrite: bool) -> None:
    present = [each.variant for each in FLAVOURS if each.variant in package.manifest.variants]
    if present and not overwrite:
        raise FileExistsError(
            f"{package.path} is calibrated already and holds {', '.join(present)}; give "
            "--overwrite to calibrate it again"
        )


def _place(
    flavour: Flavour,
    measurement: Measurement,
    judge: Judge,
    options: CalibrationOptions,
    progress: Progress,
    report: Report,
) -> Placed:
    placed = best_placement(
        measurement,
        flavour,
        judge,
        options.gate,
        sensitivity=options.sensitivity or options.picture is not None,
        progress=progress,
        report=report,
    )
    parity = placed.judgement.parity
    count, of = len(placed.variant.layers), len(flavour.candidates(measurement.layers))
    report(
        f"{flavour.variant}: {count} of {of} candidate layers in int8, {parity.agreement:.3%} of "
        f"labels equal to fp32, lowest Dice {placed.judgement.lowest_dice:.5f}"
    )
    return placed


def write_variants(
    staging: Path,
    package: Package,
    measurement: Measurement,
    gate: Gate,
    placed: Sequence[Placed],
    *,
    names: bool = False,
) -> None:
    """Write a package with int8 variants, replacing earlier ones, to `staging`.

    Parameters
    ----------
    staging
        Folder from :func:`segmaformer.runtime.package.writer.staged_package`.
    package
        The package without the new variants.
    measurement
        Measurement that the scales come from.
    gate
        Bounds that all variants have passed.
    placed
        Variants to add, and their comparisons.
    names
        Whether to write the scans' names, too.
    """
    manifest = _manifest(package.manifest, measurement, gate, placed, names=names)
    kept = {variant.file for variant in manifest.variants.values()}
    replaced = {variant.file for variant in package.manifest.variants.values()} - kept
    added = {each.variant.flavour.file: each.variant.model for each in placed}
    files = {
        name: package.read(name)
        for name in package.manifest.files
        if name not in {CARD_FILE, *replaced, *added}
    }
    for name, model in added.items():
        files[name] = model.SerializeToString(deterministic=True)
    files[CARD_FILE] = model_card(manifest).encode()
    write_files(staging, manifest, files)


def _manifest(
    manifest: Manifest,
    measurement: Measurement,
    gate: Gate,
    placed: Sequence[Placed],
    *,
    names: bool,
) -> Manifest:
    ours = {flavour.variant for flavour in FLAVOURS}
    kept = {name: each for name, each in manifest.variants.items() if name not in ours}
    added = {
        each.variant.flavour.variant: Variant(
            each.variant.flavour.file, each.variant.precision, each.judgement.parity.record()
        )
        for each in placed
    }
    record: dict[str, Any] = {
        **measurement.record(names=names),
        "gate": dataclasses.asdict(gate),
        "variants": {each.variant.flavour.variant: each.record() for each in placed},
        "software": {
            "segmaformer": segmaformer.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": import_onnxruntime().__version__,
        },
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    return dataclasses.replace(manifest, variants={**kept, **added}, calibration=record)
