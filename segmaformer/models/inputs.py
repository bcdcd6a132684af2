"""Checks that the networks share: input channels, extents and one entry for each stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch


def check_channels(volume: torch.Tensor, channels: int) -> None:
    """Refuse an input that is not (B, channels, D, H, W).

    Raises
    ------
    ValueError
        The number of axes or channels is wrong.
    """
    if volume.dim() != 5 or volume.shape[1] != channels:
        raise ValueError(
            f"input has shape {tuple(volume.shape)}; expected (B, {channels}, D, H, W)"
        )


def check_multiple(volume: torch.Tensor, factors: tuple[int, int, int]) -> None:
    """Refuse an input (B, C, D, H, W) with extents that are no multiples of `factors`.

    Raises
    ------
    ValueError
        An axis is empty or no multiple.
    """
    extents = tuple(volume.shape[2:])
    if any(n < f or n % f for n, f in zip(extents, factors, strict=True)):
        raise ValueError(
            f"input has {extents} voxels; depth, height and width must be multiples of {factors}"
        )


def check_per_stage(
    config: Mapping[str, Any], keys: Iterable[str], stages: int, network: str
) -> None:
    """Refuse a configuration whose lists do not have an entry for each stage.

    Raises
    ------
    ValueError
        A list is too long or too short.
    """
    for key in keys:
        entries = len(config[key] or ())
        if entries != stages:
            raise ValueError(f"{key} has {entries} entries; {network} has {stages} stages")
