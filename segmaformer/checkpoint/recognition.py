"""Recognition of the network that a set of weights belongs to, by names that only it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from segmaformer.checkpoint.fields import listing
from segmaformer.checkpoint.networks.network_tiles import (
    check_segformer3d_tile,
    check_segmamba_tile,
    check_segresmamba_tile,
    check_umamba_tile,
    check_unet_tile,
)
from segmaformer.checkpoint.networks.nnunet_config import (
    nnunet_keys_of_plan,
    plain_config,
    resenc_config,
)
from segmaformer.checkpoint.networks.segformer3d_config import segformer3d_config
from segmaformer.checkpoint.networks.segmaformer_config import segmaformer_config
from segmaformer.checkpoint.networks.segmaformer_tile import check_segmaformer_tile
from segmaformer.checkpoint.networks.segmamba_config import segmamba_config, segresmamba_config
from segmaformer.checkpoint.networks.taming_config import taming_config, taming_keys_of_plan
from segmaformer.checkpoint.networks.umamba_config import (
    umamba_bot_config,
    umamba_bot_keys_of_plan,
    umamba_enc_config,
    umamba_enc_keys_of_plan,
)
from segmaformer.runtime.errors import InputError
from segmaformer.runtime.spec import Triple


class InferConfig(Protocol):
    """Function that reads a full configuration from shapes, with the assumptions made."""

    def __call__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        trainer: str | None,
        given: Mapping[str, Any],
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Infer the full configuration.

        Parameters
        ----------
        shapes
            Shape of every weight by its name, without the aliases that checkpoints repeat.
        trainer
            Name of the nnU-Net trainer, or None.
        given
            Configuration keys from plans or the caller; they override inferred ones.

        Returns
        -------
        config
            Every key of :func:`segmaformer.models.model_config`. Entries without effect,
            such as the states of an attention stage, have their defaults.
        assumptions
            One sentence for each value that the weights cannot confirm.

        Raises
        ------
        InputError
            A weight is missing, or `given` contradicts the weights.
        """


@dataclass(frozen=True)
class Support:
    """Functions that rebuild a network from its weights.

    Attributes
    ----------
    infer_config
        Reads the configuration from the shapes of the weights.
    check_tile
        Refuses tiles that the network cannot run on.
    keys_of_plan
        Reads configuration keys from the U-Net that nnU-Net planned, for networks that take its
        shape.
    takes_planes
        Whether there is a 2-D form, see :mod:`segmaformer.checkpoint.planes`.
    """

    infer_config: InferConfig
    check_tile: Callable[[Mapping[str, Any], Triple], None]
    keys_of_plan: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    takes_planes: bool = False


@dataclass(frozen=True)
class Architecture:
    """Row of the table of known networks.

    Attributes
    ----------
    name
        Name for :func:`segmaformer.models.create_model`.
    title
        Name for messages, fit to follow "this is a".
    fingerprint
        Names of weights that all its checkpoints have.
    support
        Functions that rebuild it.
    trainer
        Part of the nnU-Net trainer's name that tells this network from another with the same
        weights; None if weights are enough.
    """

    name: str
    title: str
    fingerprint: tuple[str, ...]
    support: Support
    trainer: str | None = None


_SEGMAMBA = Support(segmamba_config, check_segmamba_tile)
_TAMING = Support(taming_config, check_unet_tile, taming_keys_of_plan)
_PLAIN = Support(plain_config, check_unet_tile, nnunet_keys_of_plan, takes_planes=True)
_RESENC = Support(resenc_config, check_unet_tile, nnunet_keys_of_plan, takes_planes=True)
_BOT = Support(umamba_bot_config, check_umamba_tile, umamba_bot_keys_of_plan, takes_planes=True)
_ENC = Support(umamba_enc_config, check_umamba_tile, umamba_enc_keys_of_plan, takes_planes=True)
_DECODER = "decoder.stages.0.convs.0.conv.weight"
_UP, _TRANSPOSED = "decoder.upsample_layers.0.conv.weight", "decoder.transpconvs.0.weight"
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
    Architecture(
        "nnunet-plain",
        "plain U-Net of nnU-Net",
        ("encoder.stages.0.0.convs.0.conv.weight", _DECODER, _TRANSPOSED),
        _PLAIN,
    ),
    Architecture(
        "nnunet-resenc",
        "residual encoder U-Net of nnU-Net",
        ("encoder.stages.0.blocks.0.conv1.conv.weight", _DECODER, _TRANSPOSED),
        _RESENC,
    ),
    Architecture("umamba-bot", "U-Mamba Bot", ("mamba_layer.mamba.A_log", _UP), _BOT),
    Architecture("umamba-enc", "U-Mamba Enc", ("encoder.mamba_layers.0.mamba.A_log", _UP), _ENC),
    Architecture("umamba-enc", "U-Mamba Enc", ("encoder.mamba_layers.1.mamba.A_log", _UP), _ENC),
    Architecture("umamba-bot", "U-Mamba Bot", ("ln.weight", "mamba.A_log", _TRANSPOSED), _BOT),
    Architecture(
        "umamba-enc", "U-Mamba Enc", ("encoder.mamba_layers.0.mamba.A_log", _TRANSPOSED), _ENC
    ),
)


WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Words that DataParallel, torch.compile, FSDP and checkpointing put anywhere into names."""


@dataclass(frozen=True)
class Recognised:
    """Networks that fit the weights behind one prefix; several if only the trainer tells.

    Attributes
    ----------
    prefix
        Text before the network's own names, as stored; empty, or with a dot at its end.
    rows
        Networks that fit.
    """

    prefix: str
    rows: tuple[Architecture, ...]


def find_networks(names: Iterable[str]) -> list[Recognised]:
    """Find networks whose fingerprint is complete among the names of weights, by their prefix.

    Parameters
    ----------
    names
        Names of all weights. Training frameworks may have put prefixes such as ``model.`` in front
        of them, and wrappers such as ``module.`` anywhere.
    """
    by_name = list(names)
    found: dict[str, list[Architecture]] = {}
    for row in ARCHITECTURES:
        prefixes = [_prefixes(by_name, key) for key in row.fingerprint]
        for prefix in dict.fromkeys(prefixes[0]):
            if all(prefix in others for others in prefixes[1:]):
                fitting = found.setdefault(prefix, [])
                if all(row.name != other.name for other in fitting):
                    fitting.append(row)
    return [
        Recognised(prefix, tuple(rows))
        for prefix, rows in sorted(found.items(), key=lambda entry: len(entry[0]))
        if not any(_repeats(prefix, outer) for outer in found)
    ]


def _prefixes(names: list[str], key: str) -> list[str]:
    """Find the text before `key` in each name that ends with it, ignoring wrappers in `key`."""
    last = key.rpartition(".")[2]
    found = []
    for name in names:
        if not name.endswith(last):
            continue
        parts = name.split(".")
        wanted = key.split(".")
        while parts and wanted:
            part = parts.pop()
            if part == wanted[-1]:
                wanted.pop()
            elif part not in WRAPPERS:
                break
        if not wanted:
            found.append("".join(f"{part}." for part in parts))
    return found


def _repeats(prefix: str, outer: str) -> bool:
    """Tell if the network behind `prefix` is only the Taming Mambas' second encoder."""
    return prefix.startswith(outer) and without_wrappers(prefix[len(outer) :]) == "decoder."


def without_wrappers(name: str) -> str:
    """Return the name of a weight as the network itself has it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def check_arch(arch: str | None) -> None:
    """Raise an error for a name that no network has.

    Raises
    ------
    ValueError
        The name is unknown; the message lists the known ones.
    """
    known = dict.fromkeys(row.name for row in ARCHITECTURES)
    if arch is not None and arch not in known:
        raise ValueError(f"unknown network {arch!r}; known: {', '.join(known)}")


def decide(found: Recognised, *, arch: str | None, trainer: str | None) -> Architecture:
    """Decide which of the networks behind one prefix it is.

    Parameters
    ----------
    found
        Item of the result of :func:`find_networks`.
    arch
        Name of the network if it is known already; it is then only confirmed.
    trainer
        Name of the nnU-Net trainer, which tells networks with the same weights apart.

    Raises
    ------
    InputError
        The network is not `arch`, or several networks fit alike.
    """
    wanted = [row for row in found.rows if arch in (None, row.name)]
    if not wanted:
        raise InputError(f"this is a {found.rows[0].title} checkpoint, not {arch} as asked for")
    if len(wanted) > 1:
        wanted = [row for row in wanted if _trained_by(trainer, row)]
    if len(wanted) != 1:
        raise InputError(_ambiguous(found.rows, trainer))
    return wanted[0]


def _trained_by(trainer: str | None, row: Architecture) -> bool:
    """Tell if the trainer's name allows this row among several."""
    return row.trainer is None or (trainer is not None and row.trainer in trainer)


def _ambiguous(rows: Sequence[Architecture], trainer: str | None) -> str:
    titles = " and ".join(row.title for row in rows)
    choices = " or ".join(row.name for row in rows)
    told_by_trainer = [f"{row.trainer} ({row.title})" for row in rows if row.trainer]
    if len(told_by_trainer) < len(rows):
        return (
            f"the checkpoint holds the weights of several networks under one prefix, {titles}; "
            f"say which it is (arch: {choices})"
        )
    named = f"names the trainer {trainer}" if trainer else "names no trainer"
    return (
        f"the weights fit {titles} alike. Only the trainer's name tells them apart, by "
        f"{' or '.join(told_by_trainer)}, and the checkpoint {named}; say which network it is "
        f"(arch: {choices})"
    )


def stranger(names: Iterable[str]) -> str:
    """Describe weights in which no network is recognised."""
    looked_for = (f"{' and '.join(row.fingerprint)} ({row.title})" for row in ARCHITECTURES)
    return (
        f"the weights belong to no known network: looked for {'; '.join(looked_for)}; "
        f"found {listing(names, 5)}"
    )
