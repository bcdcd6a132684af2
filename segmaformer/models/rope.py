"""Rotary position embedding over the three axes of a volume.

SegMaFormer rotates the patch embedding itself rather than queries and keys: a
third of the channels turns with the depth index, a third with the height index
and a third with the width index. Positions count from zero inside the tile, so
the result depends on the tile's extent only through the indices it contains.
"""

from __future__ import annotations

import torch


def rotary_tables(
    grid: tuple[int, int, int], channels: int, *, theta: float = 1e4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine tables of the rotation for one grid.

    Parameters
    ----------
    grid
        Depth, height and width of the volume, in voxels of the embedding.
    channels
        Channel count of the embedding; the ``channels mod 6`` last ones stay as they are.
    theta
        Base of the geometric series of frequencies.

    Returns
    -------
    cos, sin
        float32, shape (D, H, W, 3, channels // 6): one angle for each axis and
        frequency. Order of operations as in the published code, which computes
        ``position * (1 / theta ** (j / half))`` in float32.
    """
    half = channels // 6
    frequency = 1.0 / theta ** (torch.arange(half, dtype=torch.float32) / half)
    depth, height, width = grid
    tables = torch.empty(depth, height, width, 3, half)
    for axis, extent in enumerate(grid):
        angle = torch.arange(extent, dtype=torch.float32)[:, None] * frequency
        shape = [1, 1, 1, half]
        shape[axis] = extent
        tables[..., axis, :] = angle.view(shape)
    return tables.cos(), tables.sin()


def rotate(volume: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the channels of a channels-last volume.

    Parameters
    ----------
    volume
        Shape (B, D, H, W, C).
    cos, sin
        Tables from :func:`rotary_tables` for the same grid and channel count.

    Returns
    -------
    torch.Tensor
        Same shape as `volume`. Within each axis' channels the first half pairs
        with the second half: ``(u, v) -> (u cos - v sin, u sin + v cos)``.
    """
    rotated = 2 * cos.shape[-2] * cos.shape[-1]
    if rotated == 0:
        return volume
    pairs = volume[..., :rotated].unflatten(-1, (3, 2, rotated // 6))
    u, v = pairs[..., 0, :], pairs[..., 1, :]
    turned = torch.stack((u * cos - v * sin, u * sin + v * cos), dim=-2).flatten(-3)
    return torch.cat((turned, volume[..., rotated:]), dim=-1)
