"""Tiling stated by the caller instead of the checkpoint."""

from __future__ import annotations

import dataclasses

from segmaformer.runtime.pipeline.tiling import BLENDINGS
from segmaformer.runtime.spec import Tiling


def check_given_tiling(blending: str | None, overlap: float | None) -> None:
    """Raise an error for an unknown blending, or an overlap that leaves no step.

    Raises
    ------
    ValueError
        The value is invalid; the message states the expected ones.
    """
    if blending is not None and blending not in BLENDINGS:
        raise ValueError(f"unknown tiling {blending!r}; expected one of {', '.join(BLENDINGS)}")
    if overlap is not None and not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap:g}; expected a fraction of the tile, 0 to below 1")


def with_given_tiling(
    known: Tiling | None, blending: str | None, overlap: float | None
) -> tuple[Tiling | None, tuple[str, ...]]:
    """Change a tiling as the caller wants it.

    Parameters
    ----------
    known
        Tiling from the plans, the published training or by default; None stays None.
    blending
        One of :data:`segmaformer.runtime.pipeline.tiling.BLENDINGS`; None keeps that of `known`.
    overlap
        Fraction of a tile shared with its neighbour, 0 to below 1; None keeps that of `known`.

    Returns
    -------
    tiling, assumptions
        The tiling, and a sentence that states it if the caller gave anything.
    """
    if known is None or (blending is None and overlap is None):
        return known, ()
    scheme, gaussian = (known.scheme, known.gaussian) if blending is None else BLENDINGS[blending]
    step = known.step if overlap is None else 1 - overlap
    tiling = dataclasses.replace(known, scheme=scheme, gaussian=gaussian, step=step)
    owner = {"nnunet": "nnU-Net", "monai": "MONAI"}[scheme]
    weights = "Gaussian" if gaussian else "equal"
    sentence = (
        f"Tiles: {owner}'s positions, overlapping by {1 - step:.3g}, {weights} weights, as given."
    )
    return tiling, (sentence,)
