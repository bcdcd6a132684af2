"""Which network a set of weights belongs to, told by the names that only it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from segmaformer.checkpoint.fields import listing
from segmaformer.checkpoint.network_tiles import (
    check_segformer3d_tile,
    check_segmamba_tile,
    check_segresmamba_tile,
    check_taming_tile,
)
from segmaformer.checkpoint.segformer3d_config import segformer3d_config
from segmaformer.checkpoint.segmaformer_config import segmaformer_config
from segmaformer.checkpoint.segmaformer_tile import check_segmaformer_tile
from segmaformer.checkpoint.segmamba_config import segmamba_config, segresmamba_config
from segmaformer.checkpoint.taming_config import taming_config, taming_keys_of_plan
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.manifest import Triple


class InferConfig(Protocol):
    """Reads a full configuration from the shapes, and what was assumed about it."""

    def __call__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        trainer: str | None,
        given: Mapping[str, Any],
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """See :func:`segmaformer.checkpoint.segmaformer_config.segmaformer_config`."""


@dataclass(frozen=True)
class Support:
    """How a network is rebuilt from its weights.

    Attributes
    ----------
    infer_config
        Reads the configuration from the shapes of the weights.
    check_tile
        Refuses tiles that the network cannot run on.
    keys_of_plan
        Reads configuration keys from the U-Net that nnU-Net planned, for networks that
        take its shape.
    """

    infer_config: InferConfig
    check_tile: Callable[[Mapping[str, Any], Triple], None]
    keys_of_plan: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Architecture:
    """One row of the table of known networks.

    Attributes
    ----------
    name
        What :func:`segmaformer.models.create_model` calls it.
    title
        What people call it, fit to follow "this is a".
    fingerprint
        Weights that all its checkpoints have.
    support
        How to rebuild it.
    trainer
        Part of the nnU-Net trainer's name that tells this network from another with the
        same weights; None where weights are enough.
    """

    name: str
    title: str
    fingerprint: tuple[str, ...]
    support: Support
    trainer: str | None = None


_SEGMAMBA = Support(segmamba_config, check_segmamba_tile)
_TAMING = Support(taming_config, check_taming_tile, taming_keys_of_plan)
_TWO_WAY = "encoder.mamba_layers.0.mamba.fwd_mamba.mamba.A_log"

ARCHITECTURES = (
    Architecture(
        "segmaformer",
        "SegMaFormer",
        ("encoder.embed_1.proj.weight", "decoder.linears.0.proj.weight"),
        Support(segmaformer_config, check_segmaformer_tile),
    ),
    Architecture(
        "segformer3d",
        "SegFormer3D",
        ("segformer_encoder.embed_1.patch_embeddings.weight",),
        Support(segformer3d_config, check_segformer3d_tile),
    ),
    Architecture(
        "segresmamba",
        "SegResMamba",
        ("vit.gscs.0.proj5.weight", "segresnet.up_samples.0.0.conv.weight"),
        Support(segresmamba_config, check_segresmamba_tile),
    ),
    Architecture("segmamba", "SegMamba", ("vit.stages.0.0.mamba.A_b_log",), _SEGMAMBA),
    Architecture(
        "taming-segmamba",
        "Taming Mambas SegMamba",
        ("encoder.mamba_layers.0.mamba.mamba.A_log",),
        _TAMING,
    ),
    Architecture(
        "taming-bisegmamba",
        "Taming Mambas BiSegMamba",
        (_TWO_WAY,),
        _TAMING,
        trainer="PanSegMamba",
    ),
    Architecture(
        "taming-segmambaskip",
        "Taming Mambas SegMambaSkip",
        (_TWO_WAY,),
        _TAMING,
        trainer="SegMambaSkip",
    ),
    Architecture(
        "taming-multisegmamba",
        "Taming Mambas MultiSegMamba",
        ("encoder.mamba_layers.0.mambas.0.fwd_mamba.mamba.A_log",),
        _TAMING,
    ),
)


@dataclass(frozen=True)
class Recognised:
    """A network that can be rebuilt, and the prefix in front of its own names."""

    name: str
    support: Support
    prefix: str


def recognise(
    keys: Iterable[str], *, arch: str | None = None, trainer: str | None = None
) -> Recognised:
    """Tell which network the weights belong to.

    Parameters
    ----------
    keys
        Names of all weights. A training framework may have put one prefix such as
        ``model.`` in front of them.
    arch
        Name of the network if it is known already; then it only is confirmed.
    trainer
        Name of the nnU-Net trainer, which tells networks with the same weights apart.

    Raises
    ------
    ValueError
        `arch` is no known name.
    InputError
        No network that is known, another one than `arch`, or several that fit alike.
    """
    names = list(keys)
    known = dict.fromkeys(row.name for row in ARCHITECTURES)
    if arch is not None and arch not in known:
        raise ValueError(f"unknown network {arch!r}; known: {', '.join(known)}")
    found = [(row, prefix) for row in ARCHITECTURES if (prefix := _prefix(names, row)) is not None]
    if not found:
        raise InputError(_stranger(names))
    wanted = [(row, prefix) for row, prefix in found if arch in (None, row.name)]
    if not wanted:
        raise InputError(f"this is a {found[0][0].title} checkpoint, not {arch} as asked for")
    if len(wanted) > 1:
        wanted = [(row, prefix) for row, prefix in wanted if _trained_by(trainer, row)]
    if len(wanted) != 1:
        raise InputError(_ambiguous([row for row, _ in found], trainer))
    row, prefix = wanted[0]
    return Recognised(row.name, row.support, prefix)


def _trained_by(trainer: str | None, row: Architecture) -> bool:
    """Whether the trainer's name allows this row among several."""
    return row.trainer is None or (trainer is not None and row.trainer in trainer)


def _ambiguous(rows: list[Architecture], trainer: str | None) -> str:
    titles = " and ".join(row.title for row in rows)
    choices = " or ".join(row.name for row in rows)
    told_by_trainer = [f"{row.trainer} ({row.title})" for row in rows if row.trainer]
    if len(told_by_trainer) < len(rows):
        return (
            f"the checkpoint holds the weights of several networks, {titles}; save the weights of "
            "one of them alone"
        )
    named = f"names the trainer {trainer}" if trainer else "names no trainer"
    return (
        f"the weights fit {titles} alike. Only the trainer's name tells them apart, by "
        f"{' or '.join(told_by_trainer)}, and the checkpoint {named}; say which network it is "
        f"(arch: {choices})"
    )


def _prefix(names: list[str], row: Architecture) -> str | None:
    """Shortest prefix with which the whole fingerprint occurs among `names`."""
    present = set(names)
    first = row.fingerprint[0]
    prefixes = [name.removesuffix(first) for name in names if name.endswith(first)]
    for prefix in sorted(prefixes, key=len):
        at_boundary = not prefix or prefix.endswith(".")
        if at_boundary and all(prefix + key in present for key in row.fingerprint):
            return prefix
    return None


def _stranger(names: list[str]) -> str:
    looked_for = (f"{' and '.join(row.fingerprint)} ({row.title})" for row in ARCHITECTURES)
    return (
        f"the weights belong to no known network: looked for {'; '.join(looked_for)}; "
        f"found {listing(names, 5)}"
    )
