"""From a package and a folder of scans to int8 variants in that package."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

import segmaformer
from segmaformer.calibration.flavours import FLAVOURS
from segmaformer.calibration.int8_variant import Int8Variant, compare, int8_variant
from segmaformer.calibration.measurement import Measurement, Progress, measure
from segmaformer.calibration.partial_state import Report
from segmaformer.calibration.ranges import RangeMethod
from segmaformer.calibration.statistics import ObservationOptions
from segmaformer.calibration.tiles import TileOptions
from segmaformer.runtime.card import model_card
from segmaformer.runtime.errors import ParityError
from segmaformer.runtime.manifest import Manifest, Variant
from segmaformer.runtime.package import Package
from segmaformer.runtime.package_writer import staged_package, write_files
from segmaformer.runtime.parity import TileParity

CARD_FILE = "card.md"


@dataclass(frozen=True)
class CalibrationOptions:
    """How to calibrate.

    Attributes
    ----------
    tiles
        Which tiles of the scans.
    method
        How ranges are chosen.
    least_dice
        Dice that every label must reach between int8 and fp32 over all held-out tiles.
    budget_mib
        MiB for the activations of one run.
    threads
        Threads for one tile; None takes every processor this process may use.
    overwrite
        Replace the int8 variants of an earlier calibration.
    resumable
        Keep what was counted beside the package until all is done.
    """

    tiles: TileOptions = TileOptions()  # noqa: RUF009  (frozen)
    method: RangeMethod = "mse"
    least_dice: float = 0.995
    budget_mib: int = 512
    threads: int | None = None
    overwrite: bool = False
    resumable: bool = True


def calibrate(
    path: Path,
    folder: Path,
    options: CalibrationOptions = CalibrationOptions(),
    *,
    progress: Progress = lambda stage, done, count: None,
    report: Report = lambda message: None,
) -> Package:
    """Add int8 variants to the package at `path`, all of them or none.

    An interrupted calibration leaves the package as it was, and beside it a file from which
    the next one goes on.

    Parameters
    ----------
    path
        A package directory.
    folder
        Scans to calibrate on, as ``sgmf infer`` takes them.
    options
        See :class:`CalibrationOptions`.
    progress
        Called with the stage, the steps done and their number.
    report
        Called with a line of text where something is worth knowing.

    Returns
    -------
    Package
        The package with its new variants, opened.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such package or folder.
    PackageError
        `path` is no package that can be trusted.
    FileExistsError
        The package has int8 variants and may not lose them.
    InputError
        The scans do not suit, and why.
    ParityError
        An int8 variant falls short; nothing is written.
    PermissionError
        Nothing can be written beside the package.
    """
    package = Package.open(path)
    _check_uncalibrated(package, overwrite=options.overwrite)
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
        variants = [int8_variant(measurement, flavour) for flavour in FLAVOURS]
        parities = [_gate(each, measurement, package, options, report) for each in variants]
        write_variants(staging, package, measurement, variants, parities)
    if state is not None:
        state.unlink(missing_ok=True)
    return Package.open(path)


def _check_uncalibrated(package: Package, *, overwrite: bool) -> None:
    present = [each.variant for each in FLAVOURS if each.variant in package.manifest.variants]
    if present and not overwrite:
        raise FileExistsError(
            f"{package.path} is calibrated already and holds {', '.join(present)}; give "
            "--overwrite to calibrate it again"
        )


def _gate(
    variant: Int8Variant,
    measurement: Measurement,
    package: Package,
    options: CalibrationOptions,
    report: Report,
) -> TileParity:
    """Compare with fp32 on the held-out tiles; refuse what falls short."""
    parity = compare(
        variant.model,
        measurement.model,
        measurement.tiles.held_out.tiles,
        package.manifest.output,
        threads=options.threads,
    )
    name = variant.flavour.variant
    low = {label: dice for label, dice in parity.dice.items() if dice < options.least_dice}
    if low:
        found = ", ".join(f"{dice:.4f} for label {label}" for label, dice in low.items())
        raise ParityError(
            f"{name} does not match fp32 on held-out tiles: Dice is {found}; expected at least "
            f"{options.least_dice:g}. Nothing was written"
        )
    report(
        f"{name}: {len(variant.layers)} layers in int8, {parity.agreement:.3%} of labels equal to "
        f"fp32, lowest Dice {min(parity.dice.values()):.5f}"
    )
    return parity


def write_variants(
    staging: Path,
    package: Package,
    measurement: Measurement,
    variants: Sequence[Int8Variant],
    parities: Sequence[TileParity],
) -> None:
    """Write a package with int8 variants, in place of earlier ones, to `staging`.

    Parameters
    ----------
    staging
        From :func:`segmaformer.runtime.package_writer.staged_package`.
    package
        As it is.
    measurement
        Where the scales come from.
    variants, parities
        What to add, and how each compares.
    """
    manifest = _manifest(package.manifest, measurement, variants, parities)
    kept = {variant.file for variant in manifest.variants.values()}
    replaced = {variant.file for variant in package.manifest.variants.values()} - kept
    added = {each.flavour.file: each.model for each in variants}
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
    variants: Sequence[Int8Variant],
    parities: Sequence[TileParity],
) -> Manifest:
    names = {flavour.variant for flavour in FLAVOURS}
    kept = {name: each for name, each in manifest.variants.items() if name not in names}
    added = {
        each.flavour.variant: Variant(each.flavour.file, each.precision, parity.record())
        for each, parity in zip(variants, parities, strict=True)
    }
    record: dict[str, Any] = {
        **measurement.record(),
        "variants": {each.flavour.variant: each.record() for each in variants},
        "software": {
            "segmaformer": segmaformer.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    return dataclasses.replace(manifest, variants={**kept, **added}, calibration=record)
