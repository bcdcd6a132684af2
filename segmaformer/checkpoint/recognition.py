"""Which network a set of weights belongs to, told by the names that only it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from segmaformer.checkpoint.fields import listing
from segmaformer.checkpoint.segmaformer_config import segmaformer_config
from segmaformer.checkpoint.segmaformer_tile import check_segmaformer_tile
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
    """

    infer_config: InferConfig
    check_tile: Callable[[Mapping[str, Any], Triple], None]


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
        Weights that all its checkpoints have. Rows that share one are told apart by
        `arch`; the first of them is taken without it.
    support
        How to rebuild it; None for a network that this version only knows by name.
    """

    name: str
    title: str
    fingerprint: tuple[str, ...]
    support: Support | None = None


_TWO_WAY = "encoder.mamba_layers.0.mamba.fwd_mamba.mamba.A_log"

ARCHITECTURES = (
    Architecture(
        "segmaformer",
        "SegMaFormer",
        ("encoder.embed_1.proj.weight", "decoder.linears.0.proj.weight"),
        Support(segmaformer_config, check_segmaformer_tile),
    ),
    Architecture(
        "segformer3d", "SegFormer3D", ("segformer_encoder.embed_1.patch_embeddings.weight",)
    ),
    Architecture(
        "segresmamba",
        "SegResMamba",
        ("vit.gscs.0.proj5.weight", "segresnet.up_samples.0.0.conv.weight"),
    ),
    Architecture("segmamba", "SegMamba", ("vit.stages.0.0.mamba.A_s_log",)),
    Architecture(
        "segmamba", "SegMamba (early, two scan directions)", ("vit.stages.0.0.mamba.A_b_log",)
    ),
    Architecture(
        "taming-segmamba", "Taming Mambas SegMamba", ("encoder.mamba_layers.0.mamba.mamba.A_log",)
    ),
    Architecture("taming-bisegmamba", "Taming Mambas BiSegMamba or SegMambaSkip", (_TWO_WAY,)),
    Architecture("taming-segmambaskip", "Taming Mambas SegMambaSkip", (_TWO_WAY,)),
    Architecture(
        "taming-multisegmamba",
        "Taming Mambas MultiSegMamba",
        ("encoder.mamba_layers.0.mambas.0.fwd_mamba.mamba.A_log",),
    ),
)


@dataclass(frozen=True)
class Recognised:
    """A network that can be rebuilt, and the prefix in front of its own names."""

    name: str
    support: Support
    prefix: str


def recognise(keys: Iterable[str], *, arch: str | None = None) -> Recognised:
    """Tell which network the weights belong to.

    Parameters
    ----------
    keys
        Names of all weights. A training framework may have put one prefix such as
        ``model.`` in front of them.
    arch
        Name of the network if it is known already; then it only is confirmed.

    Raises
    ------
    ValueError
        `arch` is no known name.
    InputError
        No known network, another one than `arch`, or one that cannot be built.
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
    row, prefix = wanted[0]
    if row.support is None:
        raise InputError(
            f"this is a {row.title} checkpoint, which this version cannot build; it builds "
            f"{', '.join(row.title for row in ARCHITECTURES if row.support)}"
        )
    return Recognised(row.name, row.support, prefix)


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
