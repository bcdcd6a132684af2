"""``sgmf export``: turn a checkpoint into a package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segmaformer.cli.checkpoint_source import Reading, load_source, reading_options
from segmaformer.cli.console import print_path, say
from segmaformer.cli.parameters import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    EXISTING_PATH,
    SCAN_PATH,
    names_option,
    require_scans,
    scan_options,
)
from segmaformer.runtime.package.manifest import MOST_LICENCE
from segmaformer.runtime.pipeline.scan_image import ScanOptions
from segmaformer.runtime.system.extras import require_extra

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on

    from segmaformer.checkpoint import Checkpoint


def _check_licence(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None and not 0 < len(name.strip()) <= MOST_LICENCE:
        raise click.BadParameter(
            f"has {len(name.strip())} characters; expected a licence's name, 1 to {MOST_LICENCE}"
        )
    return name and name.strip()


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
@reading_options
@click.option(
    "--verify-scan",
    type=SCAN_PATH,
    multiple=True,
    help="Scan, a file or DICOM folder, on whose tiles the variants are compared with PyTorch; "
    "repeat for each channel.",
)
@click.option(
    "--reference",
    type=EXISTING_FILE,
    multiple=True,
    help="Input and logits of one tile, recorded with the network's own mamba_ssm (.npz); fp32 "
    "must agree with it too. Repeat for more tiles.",
)
@click.option(
    "--postprocessing",
    type=EXISTING_FILE,
    help="postprocessing.json of nnU-Net. Default: that in the trained-model folder, if any.",
)
@click.option(
    "--no-postprocessing",
    is_flag=True,
    help="Export without postprocessing, whatever that folder has.",
)
@click.option(
    "--codes",
    metavar="TABLE|FILE",
    help="DICOM codes of the labels, for DICOM results: a ready table (totalsegmentator, brats, "
    "acdc, synapse or hippocampus) or a JSON file.",
)
@click.option(
    "--licence",
    metavar="NAME",
    callback=_check_licence,
    help="Licence of the weights, such as 'CC BY-SA 4.0'. Default: that in dataset.json, if any.",
)
@scan_options
@names_option
@click.option("--overwrite", is_flag=True, help="Replace an existing package.")
def command(
    checkpoint: Path,
    output: Path | None,
    fp16: bool,
    int8: bool,
    calibration_data: Path | None,
    verify_scan: tuple[Path, ...],
    reference: tuple[Path, ...],
    postprocessing: Path | None,
    no_postprocessing: bool,
    codes: str | None,
    licence: str | None,
    reading: ScanOptions,
    names: bool,
    overwrite: bool,
    **source: Unpack[Reading],
) -> None:
    """Turn CHECKPOINT into a verified package.

    Reads nnU-Net v2 checkpoints, bare state_dicts, Lightning checkpoints and safetensors. For
    weights split over several files, give the index or its folder; for an ensemble of folds,
    nnU-Net's trained-model folder; for a MONAI bundle, its folder. With --module, CHECKPOINT holds
    the weights of your own PyTorch module. Every variant is compared with PyTorch (int8 with
    float32) before the package appears.
    """
    require_extra("torch", "onnx", "onnxscript", extra="export")
    from segmaformer.export.pipeline import ExportOptions, export_package

    if int8 != (calibration_data is not None):
        raise click.UsageError("--int8 and --calibration-data DIR go together; give both or none")
    if no_postprocessing and postprocessing is not None:
        raise click.UsageError("--postprocessing and --no-postprocessing exclude each other")
    if not verify_scan and calibration_data is None:
        require_scans(reading, "--verify-scan or --calibration-data")
    loaded = load_source(checkpoint, **source)
    if not no_postprocessing:
        loaded = _with_postprocessing(loaded, checkpoint, postprocessing, source["folds"])
    if licence is not None:
        loaded = dataclasses.replace(loaded, licence=licence)
    say(f"{loaded.arch}, {loaded.parameters:,} parameters")
    say(f"licence: {loaded.licence or 'not recorded; --licence NAME states it'}")
    for assumption in loaded.assumptions:
        say(f"assumed: {assumption}")
    package = export_package(
        loaded,
        output or Path(f"{package_name(loaded.path)}.sgmf"),
        ExportOptions(
            fp16=fp16,
            calibration_data=calibration_data,
            verify_scan=verify_scan,
            reference=reference,
            reading=reading,
            overwrite=overwrite,
            names=names,
            codes=codes,
        ),
        report=say,
    )
    print_path(package.path)


def _with_postprocessing(
    loaded: Checkpoint, folder: Path, given: Path | None, folds: tuple[str, ...] | None
) -> Checkpoint:
    """Add the given postprocessing, or that of nnU-Net's trained-model folder."""
    from segmaformer.checkpoint.folds import FOLDS, is_model_folder
    from segmaformer.checkpoint.training.postprocessing import (
        find_postprocessing,
        read_postprocessing,
    )

    file = given
    if file is None and is_model_folder(folder):
        file = find_postprocessing(folder, folds or FOLDS)
    if file is None:
        return loaded
    steps = read_postprocessing(file, loaded.output)
    say(f"postprocessing of {file}: {'; '.join(map(str, steps)) or 'none improved the training'}")
    return dataclasses.replace(loaded, postprocessing=steps)


def package_name(checkpoint: Path) -> str:
    """Name a package after its checkpoint, or after the folder of an index of weights."""
    is_index = checkpoint.name.endswith(".index.json")
    return checkpoint.absolute().parent.name if is_index else checkpoint.stem
