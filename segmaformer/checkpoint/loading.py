"""Loading of a checkpoint into a network that is ready to run, with all facts known about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segmaformer.checkpoint.aliases import drop_aliases
from segmaformer.checkpoint.files.container import CheckpointFile, read_checkpoint_file
from segmaformer.checkpoint.planes import (
    axes_with_depth,
    check_plane,
    is_of_planes,
    weights_with_depth,
)
from segmaformer.checkpoint.recognition import Architecture
from segmaformer.checkpoint.strict import check_names_and_shapes, load_weights
from segmaformer.checkpoint.training.documents import Documents, gather_documents
from segmaformer.checkpoint.training.given_tiling import check_given_tiling, with_given_tiling
from segmaformer.checkpoint.training.published_use import PublishedUse
from segmaformer.checkpoint.training.usage import PlanEntry, stated_config, usage_of
from segmaformer.checkpoint.weight_sets import choose_weights
from segmaformer.models import create_model, model_config
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.package.manifest import MOST_TILE_VOXELS
from segmaformer.runtime.spec import (
    KeepLargest,
    Label,
    Output,
    Preprocessing,
    PreviousStage,
    Tiling,
    Triple,
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network and its intended use.

    Attributes
    ----------
    model
        The network in evaluation mode, float32, on the CPU.
    arch, config
        Name and configuration from which :func:`segmaformer.models.create_model` builds it.
    parameters
        Number of trained values.
    output
        Meaning of the logits.
    known_preprocessing, known_tiling
        None if the checkpoint does not record them; see `preprocessing` and `tiling`.
    trainer
        Name of the nnU-Net trainer, or None.
    assumptions
        Sentences for a person to check: choices that the weights do not prove.
    path, sha256
        The file and its digest.
    published
        The published training that stands in for plans.json and dataset.json, or None.
    plan
        Place of the network in plans.json; None without plans.
    recorded_plans
        Plans inside the file, whether they are used or others; None if it holds none.
    previous_stage
        Labels that a cascade's second network takes as further channels; None for other networks.
    first
        A cascade's first network, see
        :func:`segmaformer.checkpoint.cascade.with_previous_stage`.
    postprocessing
        Steps on the label map; loading finds none.
    licence
        Licence of the weights, or of the data that they were trained on; None if unknown.
    """

    model: nn.Module
    arch: str
    config: dict[str, Any]
    parameters: int
    output: Output
    known_preprocessing: Preprocessing | None
    known_tiling: Tiling | None
    trainer: str | None
    assumptions: tuple[str, ...]
    path: Path
    sha256: str
    published: PublishedUse | None = None
    plan: PlanEntry | None = None
    recorded_plans: Any = None
    previous_stage: PreviousStage | None = None
    first: Checkpoint | None = None
    postprocessing: tuple[KeepLargest, ...] = ()
    licence: str | None = None

    @property
    def labels(self) -> tuple[Label, ...]:
        """Values of the label map and their names."""
        return self.output.labels

    @property
    def masks(self) -> int:
        """Number of channels that are masks of the previous stage's labels; 0 without one."""
        return 0 if self.previous_stage is None else len(self.previous_stage.labels)

    @property
    def preprocessing(self) -> Preprocessing:
        """Preparation of a scan for the network.

        Raises
        ------
        InputError
            The network takes CT, and no plans.json gave the constants of its
            normalisation.
        """
        if self.known_preprocessing is None:
            raise InputError(
                f"{self.path.name} segments CT, but without plans.json the intensities to "
                "normalise it by are unknown; give the plans.json of its training (plans)"
            )
        return self.known_preprocessing

    @property
    def tiling(self) -> Tiling:
        """Cover of a scan by tiles of the training patch's size.

        Raises
        ------
        InputError
            Neither plans.json nor the caller gave the patch size.
        """
        if self.known_tiling is None:
            raise InputError(
                f"{self.path.name} does not tell the patch size of its training, and the network "
                "only computes the same on tiles of that size; give the plans.json of its "
                "training (plans), or depth, height and width of the patch (patch_size)"
            )
        return self.known_tiling

    def in_painting_order(self) -> Checkpoint:
        """Return the same network with its outputs in the order in which a package paints regions.

        Only published networks that have parts before the whole differ from their file's order.
        """
        if self.published is None:
            return self
        return dataclasses.replace(
            self,
            model=self.published.in_painting_order(self.model),
            output=self.published.output,
            published=None,
        )


def load_checkpoint(
    path: str | Path,
    *,
    arch: str | None = None,
    config: Mapping[str, Any] | None = None,
    plans: str | Path | None = None,
    dataset_json: str | Path | None = None,
    configuration: str | None = None,
    patch_size: Sequence[int] | None = None,
    tiling: str | None = None,
    overlap: float | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """Load a checkpoint without running code from it.

    Parameters
    ----------
    path
        nnU-Net v2 ``checkpoint_*.pth``, a bare state_dict, a Lightning ``.ckpt``, or
        safetensors; for weights split over several files, their index or its folder.
    arch
        Name of the network; None recognises it from the weights.
    config
        Configuration keys that override inferred ones, such as ``num_heads`` or ``use_rope``.
    plans, dataset_json
        nnU-Net's files to use instead of those inside or beside the checkpoint.
    configuration
        Name of the configuration in the plans, such as ``3d_fullres``.
    patch_size
        Depth, height and width of the tile in voxels, if the plans do not state it.
    tiling
        Layout and blending of tiles, if neither nnU-Net's nor the published one: ``nnunet``,
        ``monai-constant`` or ``monai-gaussian``.
    overlap
        Fraction of a tile shared with its neighbour, 0 to below 1; 0.5 if nothing is known.
    weights
        Set of weights to use, if the file has several: the key of their dictionary, the prefix
        of their names, or both with a dot between.

    Returns
    -------
    Checkpoint
        The network, its inputs and outputs as far as they are recorded, and the assumptions.

    Raises
    ------
    FileNotFoundError
        A file does not exist.
    ValueError
        An unknown `arch`, configuration key or value, a `configuration` without plans, a
        `patch_size` that is not three positive numbers, an unknown `tiling`, an `overlap` that
        is not in 0 to below 1, or `weights` that the file does not have.
    InputError
        A file that is no checkpoint, is damaged or would run code; an unknown network or
        another than `arch`; several sets of weights; weights that are missing, surplus,
        misshapen or not finite; plans that contradict them; or a tile that the network cannot
        run on.
    """
    tile = None if patch_size is None else _given_tile(patch_size)
    check_given_tiling(tiling, overlap)
    file = read_checkpoint_file(path)
    chosen = choose_weights(file, arch=arch, key=weights)
    network = chosen.arch
    model_config(network.name, **(config or {}))
    tensors = drop_aliases(chosen.weights)
    of_planes = network.support.takes_planes and is_of_planes(tensors)
    if of_planes:
        tensors = weights_with_depth(tensors)
        file = dataclasses.replace(file, mirror_axes=axes_with_depth(file.mirror_axes))
    documents = gather_documents(file, plans=plans, dataset_json=dataset_json)
    full_config, assumed = _full_config(
        network, file, documents, tensors, configuration, config, of_planes=of_planes
    )
    usage = usage_of(
        file,
        documents,
        network.name,
        full_config,
        configuration=configuration,
        tile=tile,
        of_planes=of_planes,
    )
    if of_planes and usage.tiling is not None:
        check_plane(usage.tiling.tile)
    if usage.tiling is not None:
        network.support.check_tile(full_config, usage.tiling.tile)
    known_tiling, told = with_given_tiling(usage.tiling, tiling, overlap)
    model = create_model(network.name, **full_config)
    load_weights(model, tensors)
    assumptions = (*file.assumptions, *chosen.sentences, *assumed, *usage.assumptions, *told)
    return Checkpoint(
        model=model.eval(),
        arch=network.name,
        config=full_config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        output=usage.output,
        known_preprocessing=usage.preprocessing,
        known_tiling=known_tiling,
        trainer=file.trainer,
        assumptions=assumptions,
        path=file.path,
        sha256=file.sha256,
        published=usage.published,
        plan=usage.plan,
        licence=documents.licence,
        recorded_plans=file.init_args.get("plans"),
        previous_stage=usage.previous_stage,
    )


def _given_tile(patch_size: Sequence[int]) -> Triple:
    depth, height, width = patch_size if len(patch_size) == 3 else (0, 0, 0)
    if min(depth, height, width) < 1:
        raise ValueError(
            f"patch_size is {tuple(patch_size)}; expected depth, height and width in voxels"
        )
    if depth * height * width > MOST_TILE_VOXELS:
        raise ValueError(
            f"patch_size is {tuple(patch_size)}; expected at most {MOST_TILE_VOXELS} voxels in all"
        )
    return int(depth), int(height), int(width)


def _full_config(
    network: Architecture,
    file: CheckpointFile,
    documents: Documents,
    tensors: Mapping[str, torch.Tensor],
    configuration: str | None,
    config: Mapping[str, Any] | None,
    *,
    of_planes: bool,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer every key of the network's configuration, and list the assumptions made."""
    if configuration is not None and documents.plans is None:
        raise ValueError(
            f"configuration {configuration!r} is one of plans.json, and there is none; give it "
            "(plans), or leave the configuration out"
        )
    stated = stated_config(
        file,
        documents,
        network.name,
        configuration=configuration,
        keys_of_plan=network.support.keys_of_plan,
        of_planes=of_planes,
    )
    full_config, assumptions = network.support.infer_config(
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
        trainer=file.trainer,
        given={**stated, **(config or {})},
    )
    _check_size(network.name, full_config, tensors, by_caller=bool(config))
    return full_config, assumptions


def _check_size(
    name: str,
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    *,
    by_caller: bool,
) -> None:
    """Refuse weights that are not the network's before memory of its size is allocated.

    A configuration that cannot be built is the fault of the caller's settings or of the plans.
    """
    try:
        with torch.device("meta"):
            outline = create_model(name, **config)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        if by_caller:
            raise ValueError(reason) from error
        raise InputError(f"no {name} can be built as plans and weights say: {reason}") from error
    check_names_and_shapes(outline.state_dict(), weights)
