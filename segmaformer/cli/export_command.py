"""``sgmf export``: turn a checkpoint into a package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from segmaformer.cli.console import print_path, say
from segmaformer.cli.extras import require_extra
from segmaformer.cli.parameters import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    EXISTING_PATH,
    names_option,
    nan_to_option,
    parse_settings,
    parse_triple,
    weights_option,
)
from segmaformer.runtime.pipeline.tiling import BLENDINGS

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on


class Reading(TypedDict):
    """How to read a checkpoint; see :func:`segmaformer.checkpoint.load_checkpoint`."""

    weights: str | None
    arch: str | None
    plans: Path | None
    dataset_json: Path | None
    configuration: str | None
    patch_size: tuple[int, int, int] | None
    tiling: str | None
    overlap: float | None


def _parse_folds(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else tuple(fold.strip() for fold in value.split(","))


@click.command("export")
@click.argument("checkpoint", type=EXISTING_PATH)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Package to write. Default: NAME.sgmf in the current folder, for a checkpoint NAME.pth.",
)
@click.option("--fp16", is_flag=True, help="Add a float16 variant.")
@click.option("--int8", is_flag=True, help="Add int8 variants; needs --calibration-data.")
@click.option(
    "--calibration-data",
    type=EXISTING_FOLDER,
    help="Folder of scans to calibrate int8 on.",
)
@click.option(
    "--folds",
    callback=_parse_folds,
    metavar="0,1,2",
    help="Folds of a model folder of nnU-Net, whose logits are averaged; all of 0 to 4 by default.",
)
@click.option(
    "--checkpoint-name",
    metavar="FILE",
    help="File in each fold's folder; checkpoint_final.pth by default.",
)
@weights_option
@click.option("--arch", help="Name of the network, if the weights alone do not identify it.")
@click.option("--plans", type=EXISTING_FILE, help="nnU-Net plans.json of the training.")
@click.option("--dataset-json", type=EXISTING_FILE, help="nnU-Net dataset.json of the training.")
@click.option("--configuration", help="Configuration in the plans, such as 3d_fullres.")
@click.option(
    "--patch-size",
    callback=parse_triple,
    metavar="D,H,W",
    help="Size of a tile in voxels, if no plans state it.",
)
@click.option(
    "--tiling",
    type=click.Choice([*BLENDINGS]),
    help="Layout and blending of tiles, if the checkpoint does not state them.",
)
@click.option(
    "--overlap",
    type=float,
    help="Fraction of a tile shared with its neighbour (0 to 1). Default: the checkpoint's or 0.5.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting of the network, such as num_heads=[1,2,4,6] or use_rope=false; repeat for more.",
)
@click.option(
    "--verify-scan",
    type=EXISTING_FILE,
    multiple=True,
    help="Scan on whose tiles the variants are compared with PyTorch; repeat for each channel.",
)
@nan_to_option
@names_option
@click.option("--overwrite", is_flag=True, help="Replace an existing package.")
def command(
    checkpoint: Path,
    output: Path | None,
    fp16: bool,
    int8: bool,
    calibration_data: Path | None,
    settings: tuple[str, ...],
    verify_scan: tuple[Path, ...],
    nan_to: float | None,
    names: bool,
    overwrite: bool,
    **reading: Unpack[Reading],
) -> None:
    """Turn CHECKPOINT into a verified package.

    Reads nnU-Net v2 checkpoints, bare state_dicts, Lightning checkpoints and safetensors. For
    weights split over several files, give the index or its folder; for an ensemble of folds,
    nnU-Net's trained-model folder. Every variant is compared with PyTorch (int8 with float32)
    before the package appears.
    """
    require_extra("torch", "onnx", "onnxscript", extra="export")
    from segmaformer.checkpoint import load_checkpoint, load_folds
    from segmaformer.checkpoint.folds import is_model_folder
    from segmaformer.export.pipeline import ExportOptions, export_package

    if int8 != (calibration_data is not None):
        raise click.UsageError("--int8 and --calibration-data DIR go together; give both or none")
    if nan_to is not None and not verify_scan and calibration_data is None:
        raise click.UsageError("--nan-to needs scans: --verify-scan or --calibration-data")
    config = parse_settings(settings)
    try:
        loaded = load_checkpoint(checkpoint, config=config, **reading)
    except ValueError as error:  # an option that does not suit the network
        raise click.UsageError(str(error)) from error
    say(f"{loaded.arch}, {loaded.parameters:,} parameters")
    for assumption in loaded.assumptions:
        say(f"assumed: {assumption}")
    package = export_package(
        loaded,
        output or Path(f"{package_name(loaded.path)}.sgmf"),
        ExportOptions(
            fp16=fp16,
            calibration_data=calibration_data,
            verify_scan=verify_scan,
            nan_to=nan_to,
            overwrite=overwrite,
            names=names,
        ),
        report=say,
    )
    print_path(package.path)


def package_name(checkpoint: Path) -> str:
    """Name a package after its checkpoint, or after the folder of an index of weights."""
    is_index = checkpoint.name.endswith(".index.json")
    return checkpoint.absolute().parent.name if is_index else checkpoint.stem
