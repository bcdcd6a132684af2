"""Options that say how to read a checkpoint, and the reading: a file, folds, or your own module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from segmaformer.cli.choices import NamedChoice
from segmaformer.cli.console import say
from segmaformer.cli.parameters import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    parse_settings,
    parse_triple,
    weights_option,
)
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.pipeline.tiling import BLENDINGS

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on

    from segmaformer.checkpoint import Checkpoint
    from segmaformer.checkpoint.files.container import CheckpointFile
    from segmaformer.export.own_network.own_module import Use

_WHOLE_NETWORKS = (".onnx", ".pt2")
"""Suffixes of files that hold a network and its weights."""


class Reading(TypedDict):
    """Values of the options of :func:`reading_options`."""

    previous_stage: Path | None
    folds: tuple[str, ...] | None
    checkpoint_name: str | None
    weights: str | None
    arch: str | None
    plans: Path | None
    dataset_json: Path | None
    configuration: str | None
    patch_size: tuple[int, int, int] | None
    tiling: str | None
    overlap: float | None
    settings: tuple[str, ...]
    module: str | None
    module_path: Path | None
    module_args: str | None
    use: Path | None


def _parse_folds(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else tuple(fold.strip() for fold in value.split(","))


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--previous-stage",
        type=EXISTING_FOLDER,
        help="Trained-model folder of a cascade's first stage. Default: the one beside CHECKPOINT.",
    ),
    click.option(
        "--folds",
        callback=_parse_folds,
        metavar="0,1,2",
        help="Folds of nnU-Net's trained-model folder to average. Default: 0,1,2,3,4.",
    ),
    click.option(
        "--checkpoint-name",
        metavar="FILE",
        help="Name of the checkpoint in each fold's folder. Default: checkpoint_final.pth.",
    ),
    weights_option,
    click.option("--arch", help="Name of the network, if the weights alone do not identify it."),
    click.option("--plans", type=EXISTING_FILE, help="nnU-Net plans.json of the training."),
    click.option(
        "--dataset-json", type=EXISTING_FILE, help="nnU-Net dataset.json of the training."
    ),
    click.option("--configuration", help="Configuration in the plans, such as 3d_fullres."),
    click.option(
        "--patch-size",
        callback=parse_triple,
        metavar="D,H,W",
        help="Size of a tile in voxels, if no plans state it.",
    ),
    click.option(
        "--tiling",
        type=NamedChoice([*BLENDINGS]),
        help="Layout and blending of tiles, if the checkpoint does not state them.",
    ),
    click.option(
        "--overlap",
        type=float,
        help="Fraction of a tile shared with its neighbour (0 to 1). "
        "Default: the checkpoint's or 0.5.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Setting of the network, such as num_heads=[1,2,4,6] or use_rope=false; "
        "repeat for more.",
    ),
    click.option(
        "--module",
        metavar="PACKAGE.MODULE:NAME",
        help="Class or function of your own that makes the network. Its code is run.",
    ),
    click.option(
        "--module-path",
        type=EXISTING_FOLDER,
        help="Folder to search for that module. Default: installed packages alone.",
    ),
    click.option(
        "--module-args", metavar="JSON", help="Keyword arguments of NAME, as a JSON object."
    ),
    click.option(
        "--use",
        type=EXISTING_FILE,
        help="JSON file of the module's preprocessing, tiling and output, in the keys of a "
        "package's manifest, if there are no plans.",
    ),
)


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`Reading` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_source(path: Path, **reading: Unpack[Reading]) -> Checkpoint:
    """Load a checkpoint, folds, a cascade, a MONAI bundle, or a network of your own.

    Raises
    ------
    click.UsageError
        Options do not go together, or do not suit the network.
    """
    from segmaformer.checkpoint.folds import is_model_folder
    from segmaformer.export.monai_bundle.configuration import is_bundle

    options: dict[str, Any] = dict(reading)
    config = parse_settings(options.pop("settings"))
    of_folds = _given(options, "folds", "checkpoint_name")
    previous = options.pop("previous_stage")
    own = {key: options.pop(key) for key in ("module", "module_path", "module_args", "use")}
    if of_folds and not is_model_folder(path):
        raise click.UsageError(
            f"--folds and --checkpoint-name need nnU-Net's trained-model folder; {path} has no "
            "fold_0 or other fold in it"
        )
    if is_bundle(path):
        return _load_bundle(path, {**options, **own, "previous_stage": previous, "set": config})
    if previous is not None and (own["module"] is not None or path.suffix in _WHOLE_NETWORKS):
        raise click.UsageError("--previous-stage is for nnU-Net's own trainings")
    if own["module"] is not None:
        return _load_module(path, config, own, options)
    if path.suffix in _WHOLE_NETWORKS:
        return _load_whole_network(path, config, own, options)
    if unused := [key for key, value in own.items() if value is not None]:
        raise click.UsageError(
            f"--{unused[0].replace('_', '-')} needs --module, an ONNX or a .pt2 file"
        )
    from segmaformer.checkpoint import load_checkpoint, load_folds, with_previous_stage

    try:
        if is_model_folder(path):
            loaded = load_folds(path, **of_folds, config=config, **options)
        else:
            loaded = load_checkpoint(path, config=config, **options)
        return with_previous_stage(loaded, previous, **of_folds)
    except ValueError as error:  # an option that does not suit the network
        raise click.UsageError(str(error)) from error


def _given(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take the options of these names out, and keep those that have a value."""
    taken = {name: options.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value is not None}


def _load_bundle(path: Path, options: dict[str, Any]) -> Checkpoint:
    from segmaformer.export.monai_bundle.bundle import load_bundle

    key = options.pop("weights")
    if surplus := [name for name, value in options.items() if value]:
        raise click.UsageError(
            f"--{surplus[0].replace('_', '-')} does not go with a MONAI bundle, which states "
            "its own use; change its configs/inference.json"
        )
    return load_bundle(path, weights_key=key, report=say)


def _load_module(
    path: Path, config: dict[str, Any], own: dict[str, Any], options: dict[str, Any]
) -> Checkpoint:
    from segmaformer.checkpoint.files.container import read_checkpoint_file
    from segmaformer.export.own_network.own_module import module_checkpoint
    from segmaformer.export.own_network.user_module import build_module

    key = options.pop("weights")
    taken = _taken_for_use(options, config, own)
    file = read_checkpoint_file(path)
    use = _use(file, own["use"], **taken)
    network = build_module(own["module"], own["module_path"], own["module_args"], report=say)
    return module_checkpoint(network, use, weights=file, weights_key=key, name=own["module"])


def _load_whole_network(
    path: Path, config: dict[str, Any], own: dict[str, Any], options: dict[str, Any]
) -> Checkpoint:
    from segmaformer.checkpoint.files.container import CheckpointFile
    from segmaformer.export.own_network.own_module import onnx_checkpoint, program_checkpoint
    from segmaformer.runtime.system.digest import sha256_of

    options |= _given(own, "module_path", "module_args")
    taken = _taken_for_use(options, config, own)
    file = CheckpointFile(path, sha256_of(path), ())
    read = onnx_checkpoint if path.suffix == ".onnx" else program_checkpoint
    return read(path, _use(file, own["use"], **taken), file.sha256)


def _taken_for_use(
    options: dict[str, Any], config: dict[str, Any], own: dict[str, Any]
) -> dict[str, Any]:
    """Take the options that say how a network of the user's own is used; refuse all others."""
    documents = _given(options, "plans", "dataset_json", "configuration")
    surplus = [name for name, value in {**options, "set": config}.items() if value]
    if surplus or (own["use"] is not None and documents):
        named = f"--{surplus[0].replace('_', '-')}" if surplus else "--plans beside --use"
        raise click.UsageError(
            f"{named} does not go with a network of your own; state it in --use or the plans"
        )
    return documents


def _use(file: CheckpointFile, stated: Path | None, **documents: Any) -> Use:
    """Find how a network of the user's own is used: as stated, or from the plans."""
    from segmaformer.checkpoint.training.documents import gather_documents
    from segmaformer.export.own_network.own_module import read_use, use_of_plans

    if stated is not None:
        return read_use(stated)
    configuration = documents.pop("configuration", None)
    found = gather_documents(file, **documents)
    if found.plans is None or found.dataset is None:
        raise InputError(
            "nothing says how scans are prepared for your network; give the plans.json and "
            "dataset.json of its training (--plans, --dataset-json), or --use"
        )
    return use_of_plans(
        found.plans,
        found.dataset,
        configuration=configuration or file.init_args.get("configuration"),
        mirror_axes=file.mirror_axes or (),
    )
