"""Voxels of a volume as a sequence of tokens, and back."""

from __future__ import annotations

import torch

Grid = tuple[int, int, int]
"""Depth, height and width in voxels."""


def grid_of(volume: torch.Tensor) -> Grid:
    """Return depth, height and width of a (B, C, D, H, W) volume."""
    depth, height, width = volume.shape[2:]
    return depth, height, width


def to_volume(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Reshape (B, N, C) tokens in raster order, width fastest, to (B, C, D, H, W)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def to_tokens(volume: torch.Tensor) -> torch.Tensor:
    """Reshape (B, C, D, H, W) to (B, N, C) tokens in raster order, width fastest."""
    return volume.flatten(2).transpose(1, 2)
