"""Logits of the same network that another machine recorded, such as one with the real mamba_ssm.

PyTorch here runs the project's own scan and, for the user's networks, its own Mamba layers. Only
the package that the network was trained with can vouch for those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segmaformer.runtime.errors import InputError
from segmaformer.runtime.parity.tile_parity import TileParity
from segmaformer.runtime.spec import Output
from segmaformer.runtime.system.digest import sha256_of
from segmaformer.runtime.system.npz import UNREADABLE, read_npz

RECORDED_BOUND = 1e-3
"""Largest error over the range of the logits that passes. CUDA's kernels and mamba_ssm's sum in
another order and round exponentials otherwise, which deep networks amplify to some 1e-4; another
order of tokens, another direction or a missing term gives 1e-2 and more."""


@dataclass(frozen=True, eq=False)
class RecordedTile:
    """An input and the logits that another machine computed of it.

    Attributes
    ----------
    tile
        Shape (C, D, H, W), float32.
    logits
        Shape (K, D, H, W), float32, in the order of the package's outputs.
    sha256
        SHA-256 of the file.
    """

    tile: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    sha256: str


def read_recorded(
    path: Path,
    tile_shape: tuple[int, ...],
    logits_shape: tuple[int, ...],
    order: Sequence[int] = (),
) -> RecordedTile:
    """Read an ``.npz`` that holds ``input`` and ``logits`` of one tile.

    Parameters
    ----------
    path
        The file.
    tile_shape, logits_shape
        Shapes (C, D, H, W) and (K, D, H, W) that the checkpoint asks for.
    order
        Place in the file of each output of the package; empty if they stand in that order.

    Raises
    ------
    InputError
        The file is no ``.npz``, has other arrays or shapes, or numbers that are not finite.
    """
    expected = {"input": (tile_shape, "f"), "logits": (logits_shape, "f")}
    try:
        with path.open("rb") as file:
            arrays = read_npz(file, expected)
    except UNREADABLE as error:
        raise InputError(
            f"{path.name} is no recorded reference: {error}. Write it with numpy.savez_compressed "
            f"(input=..., logits=...) for one tile, {tile_shape} and {logits_shape}"
        ) from error
    found = {name: array.astype(np.float32) for name, array in arrays.items()}
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} of {path.name} holds numbers that are NaN or infinite")
    logits = found["logits"][list(order)] if order else found["logits"]
    return RecordedTile(found["input"], logits, sha256_of(path))


@dataclass(frozen=True)
class RecordedCheck:
    """Comparison of a variant with recorded logits.

    Attributes
    ----------
    parity
        Figures of the comparison.
    sha256
        SHA-256 of each file.
    """

    parity: TileParity
    sha256: tuple[str, ...]

    @property
    def figures(self) -> str:
        """Figures in a few words, for people."""
        return (
            f"recorded logits within {self.parity.relative_error:.1e}, "
            f"{self.parity.agreement:.3%} of their labels equal"
        )

    def shortcomings(self) -> list[str]:
        """List the bounds that are missed, of logits and of labels."""
        return [*self.parity.shortcomings(exact=True), *self.parity.shortcomings(exact=False)]

    def record(self) -> dict[str, Any]:
        """Describe the figures for the manifest."""
        return {
            "recorded_tiles": self.parity.tiles,
            "recorded_error": self.parity.relative_error,
            "recorded_bound": self.parity.bound,
            "recorded_agreement": self.parity.agreement,
            "recorded_sha256": list(self.sha256),
        }


def compare_recorded(
    recorded: Sequence[RecordedTile], compute: Callable[[np.ndarray], np.ndarray], output: Output
) -> RecordedCheck | None:
    """Compare a variant on recorded tiles; None if there are none.

    Parameters
    ----------
    recorded
        The tiles.
    compute
        Function from a tile (C, D, H, W) to the variant's logits (K, D, H, W).
    output
        Meaning of the logits.
    """
    if not recorded:
        return None
    parity = TileParity(output, reference="recorded logits", bound=RECORDED_BOUND)
    for each in recorded:
        parity.add(compute(each.tile), each.logits)
    return RecordedCheck(parity, tuple(each.sha256 for each in recorded))
