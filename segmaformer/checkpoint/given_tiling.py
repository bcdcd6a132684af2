"""How tiles lie and are blended where the caller says it, as the training's own inference did."""

from __future__ import annotations

import dataclasses

from segmaformer.runtime.pipeline.tiling import BLENDINGS
from segmaformer.runtime.spec import Tiling


def check_given_tiling(blending: str | None, overlap: float | None) -> None:
    """Refuse a blending that is not known and an overlap that leaves no step.

    Raises
    ------
    ValueError
        And what is expected.
    """
    if blending is not None and blending not in BLENDINGS:
        raise ValueError(f"unknown tiling {blending!r}; expected one of {', '.join(BLENDINGS)}")
    if overlap is not None and not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap:g}; expected a part of the tile, 0 to below 1")


def with_given_tiling(
    known: Tiling | None, blending: str | None, overlap: float | None
) -> tuple[Tiling | None, tuple[str, ...]]:
    """Change a tiling as the caller wants it.

    Parameters
    ----------
    known
        From the plans, the published training or by default; None stays None.
    blending
        One of :data:`segmaformer.runtime.pipeline.tiling.BLENDINGS`; None keeps what is known.
    overlap
        Of neighbouring tiles, as a part of the tile; None keeps what is known.

    Returns
    -------
    tiling, assumptions
        And a sentence for a person, where something was given.
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
