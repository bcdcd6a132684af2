"""Rotary position embedding over the three axes of a volume.

SegMaFormer rotates the patch embedding itself rather than queries and keys: a
third of the channels turns with the depth index, a third with the height index
and a third with the width index. Positions count from zero inside the tile.
"""

from __future__ import annotations

import torch

from segmaformer.models.layers.tokens import Grid


def rotary_tables(
    grid: Grid, channels: int, *, theta: float = 1e4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute cosines and signed sines that rotate the channels of a volume.

    Parameters
    ----------
    grid
        Depth, height and width of the volume, in voxels of the embedding.
    channels
        Channel count of the embedding.
    theta
        Base of the geometric series of frequencies.

    Returns
    -------
    cos, sin
        float32, shape (D, H, W, channels). The ``channels mod 6`` last channels
        have angle zero. `sin` is negated for the first of each pair. Order of
        operations as in the published code: ``position * (1 / theta ** (j / half))``.
    """
    half = channels // 6
    frequency = 1.0 / theta ** (torch.arange(half, dtype=torch.float32) / half)
    cosines, sines = [], []
    for axis, extent in enumerate(grid):
        shape = [1, 1, 1, half]
        shape[axis] = extent
        angle = (torch.arange(extent, dtype=torch.float32)[:, None] * frequency).view(shape)
        cos, sin = angle.cos().expand(*grid, half), angle.sin()
        cosines += [cos, cos]
        sines += [(-sin).expand(*grid, half), sin.expand(*grid, half)]
    rest = (*grid, channels - 6 * half)
    return torch.cat((*cosines, torch.ones(rest)), -1), torch.cat((*sines, torch.zeros(rest)), -1)


def rotate(volume: torch.Tensor, *, theta: float = 1e4) -> torch.Tensor:
    """Rotate the channels of a channels-last volume.

    Parameters
    ----------
    volume
        Shape (B, D, H, W, C).
    theta
        Base of the geometric series of frequencies.

    Returns
    -------
    torch.Tensor
        Same shape. Within each axis' channels the first half pairs with the
        second: ``(u, v) -> (u cos - v sin, u sin + v cos)``.
    """
    depth, height, width, channels = volume.shape[1:]
    half = channels // 6
    if half == 0:
        return volume
    cos, sin = rotary_tables((depth, height, width), channels, theta=theta)
    a, b, c, d, e, f, rest = volume.split((*(half,) * 6, channels - 6 * half), dim=-1)
    partner = torch.cat((b, a, d, c, f, e, rest), dim=-1)
    return volume * cos.to(volume.device) + partner * sin.to(volume.device)
