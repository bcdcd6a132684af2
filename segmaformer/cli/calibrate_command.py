"""``sgmf calibrate``: int8 variants for a package, from scans."""

from __future__ import annotations

from pathlib import Path

import click

from segmaformer.calibration.ranges import METHODS, range_method
from segmaformer.calibration.scores.gate import Gate
from segmaformer.cli.console import print_path, progress_bar, say
from segmaformer.cli.extras import require_extra
from segmaformer.cli.parameters import EXISTING_FOLDER, names_option, nan_to_option

# A killed run may have left the package moved aside, and is settled before it is looked for.
PACKAGE = click.Path(file_okay=False, path_type=Path)


@click.command("calibrate")
@click.argument("package", type=PACKAGE)
@click.argument("scans", type=EXISTING_FOLDER)
@click.option(
    "--labels", type=EXISTING_FOLDER, help="Label maps to judge by too, named as their scans."
)
@click.option(
    "--ranges",
    "method",
    type=click.Choice(METHODS),
    default="mse",
    show_default=True,
    help="How the range of an activation is chosen.",
)
@click.option(
    "--least-dice",
    type=click.FloatRange(0, 1),
    default=Gate.least_dice,
    show_default=True,
    help="What every label must reach between int8 and fp32 on held-out tiles.",
)
@click.option(
    "--largest-loss",
    type=click.FloatRange(0, 1),
    default=Gate.largest_loss,
    show_default=True,
    help="Dice with the label maps that int8 may lose against fp32, for every label.",
)
@click.option("--sensitivity", is_flag=True, help="Measure each layer even if all together pass.")
@click.option(
    "--sensitivity-picture",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG of each layer's harm and saving; implies --sensitivity.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the choice of tiles.",
)
@click.option("--accept-few", is_flag=True, help="Go on with one or two scans.")
@nan_to_option
@names_option
@click.option("--overwrite", is_flag=True, help="Replace int8 variants that are there.")
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
    nan_to: float | None,
    names: bool,
    overwrite: bool,
) -> None:
    """Add int8 variants to PACKAGE, calibrated on SCANS.

    SCANS is a folder as `sgmf infer` takes it; some of the scans are held out to judge by.
    Where not every layer can be int8, each is measured alone, and the largest part that passes
    is kept. PACKAGE changes only if every variant passes. Once interrupted, the same command
    goes on where it was.
    """
    require_extra("onnx", extra="export")
    from segmaformer.calibration.calibrate import CalibrationOptions, calibrate
    from segmaformer.calibration.tiles import TileOptions

    options = CalibrationOptions(
        tiles=TileOptions(seed=seed, labels=labels, accept_few=accept_few, nan_to=nan_to),
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
