"""``sgmf calibrate``: add int8 variants to a package, calibrated on scans."""

from __future__ import annotations

import os
from pathlib import Path

import click

from segmaformer.calibration.ranges import METHODS, range_method
from segmaformer.calibration.scores.gate import Gate
from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import print_path, progress_bar, say
from segmaformer.cli.package_parameters import stored_model, trust_options
from segmaformer.cli.parameters import EXISTING_FOLDER, names_option, scan_options
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.system.extras import require_extra

# Need not exist: a killed run may have left the package moved aside, and is cleaned up first.
PACKAGE = click.Path(file_okay=False, path_type=Path)


@click.command("calibrate")
@click.argument("package", type=PACKAGE)
@click.argument("scans", type=EXISTING_FOLDER)
@click.option(
    "--labels",
    type=EXISTING_FOLDER,
    help="Folder of reference label maps, named like the scans.",
)
@click.option(
    "--ranges",
    "method",
    type=NamedChoice(METHODS),
    default="mse",
    show_default=True,
    help="Method that chooses the range of each activation.",
)
@click.option(
    "--least-dice",
    type=click.FloatRange(0, 1),
    default=Gate.least_dice,
    show_default=True,
    help="Lowest Dice (0 to 1) between int8 and fp32 for every label on held-out tiles.",
)
@click.option(
    "--largest-loss",
    type=click.FloatRange(0, 1),
    default=Gate.largest_loss,
    show_default=True,
    help="Largest loss of Dice (0 to 1) with --labels, int8 compared with fp32, for every label.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Measure every layer alone, even if int8 passes in all of them together.",
)
@click.option(
    "--sensitivity-picture",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file for a chart of each layer's harm and saving; implies --sensitivity.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed for choosing scans and tiles.",
)
@click.option(
    "--accept-few", is_flag=True, help="Accept one or two scans instead of three or more."
)
@scan_options
@names_option
@trust_options
@click.option("--overwrite", is_flag=True, help="Replace int8 variants that the package has.")
def command(
    package: Path,
    scans: Path,
    labels: Path | None,
    method: str,
    least_dice: float,
    largest_loss: float,
    sensitivity: bool,
    picture: Path | None,
    seed: int,
    accept_few: bool,
    reading: ScanOptions,
    names: bool,
    overwrite: bool,
) -> None:
    """Add int8 variants to PACKAGE, calibrated on SCANS.

    SCANS is a folder laid out as for `sgmf infer`; some of the scans are held out to judge the
    result. If not every layer can be int8, each is measured alone and the largest set that passes
    is kept. PACKAGE changes only if every variant passes. Repeat an interrupted command to
    continue it.
    """
    if stored_model(os.fspath(package)) is not None:
        raise click.UsageError(
            f"{package} is a model in the store, where packages do not change; calibrate a package "
            "outside it, then add that: sgmf models add PACKAGE"
        )
    require_extra("onnx", extra="export")
    from segmaformer.calibration.calibrate import CalibrationOptions, calibrate
    from segmaformer.calibration.tiles import TileOptions

    options = CalibrationOptions(
        tiles=TileOptions(seed=seed, labels=labels, accept_few=accept_few, reading=reading),
        method=range_method(method),
        gate=Gate(least_dice, largest_loss),
        sensitivity=sensitivity,
        picture=picture,
        overwrite=overwrite,
        names=names,
    )
    with progress_bar(package.name) as show:
        calibrated = calibrate(package, scans, options, progress=show, report=say)
    print_path(calibrated.path)
