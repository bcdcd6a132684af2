"""Mamba layers of the Taming Mambas networks, and how they visit the voxels of a stage.

Source: L. Lumetti et al., "Taming Mambas for Voxel Level 3D Medical Image Segmentation",
arXiv 2410.15496. Parameter names are those of the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from segmaformer.models.layers.mamba import Mamba
from segmaformer.models.layers.tokens import grid_of, to_tokens, to_volume

MakeMixer = Callable[[int], nn.Module]


class MambaBlock(nn.Module):
    """Mamba, then a linear layer; a norm before and the identity beside either."""

    def __init__(self, channels: int, *, d_state: int, d_conv: int, expand: int):
        super().__init__()
        self.mamba = Mamba(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, channels)

    def forward(self, tokens: torch.Tensor, *, reverse: bool = False) -> torch.Tensor:
        """Mix (B, L, C) tokens, from their end if `reverse`; returns the same shape."""
        tokens = tokens + self.mamba(self.norm1(tokens), reverse=reverse)
        return tokens + self.head(self.norm2(tokens))


class TwoWayMambaBlock(nn.Module):
    """One :class:`MambaBlock` forward and one backward, their sum normalised."""

    def __init__(self, channels: int, *, d_state: int, d_conv: int, expand: int):
        super().__init__()
        self.fwd_mamba = MambaBlock(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.bwd_mamba = MambaBlock(channels, d_state=d_state, d_conv=d_conv, expand=expand)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix (B, L, C) tokens; returns the same shape."""
        return self.norm(self.fwd_mamba(tokens) + self.bwd_mamba(tokens, reverse=True))


class RasterLayer(nn.Module):
    """Layer norm and a mixer over the voxels of a volume in raster order."""

    def __init__(self, channels: int, make_mixer: MakeMixer):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = make_mixer(channels)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Mix the voxels of a (B, C, D, H, W) volume; returns the same shape."""
        return to_volume(self.mamba(self.norm(to_tokens(volume))), grid_of(volume))


class FourOrdersLayer(nn.Module):
    """The mean of four mixers, each over the voxels in another order of the axes."""

    ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1))
    """Orders of the axes, slowest to fastest; 0 is depth."""

    def __init__(self, channels: int, make_mixer: MakeMixer):
        super().__init__()
        self.mambas = nn.ModuleList(make_mixer(channels) for _ in self.ORDERS)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Mix the voxels of a (B, C, D, H, W) volume; returns the same shape."""
        first, *others = (
            _mix_in_order(mixer, volume, order)
            for mixer, order in zip(self.mambas, self.ORDERS, strict=True)
        )
        return sum(others, first) / len(self.ORDERS)


def _mix_in_order(
    mixer: nn.Module, volume: torch.Tensor, order: tuple[int, int, int]
) -> torch.Tensor:
    """Mix voxels with the axes in `order`: one transpose before, one after."""
    slow, middle, fast = (axis + 2 for axis in order)
    tokens = volume.permute(0, slow, middle, fast, 1)
    mixed = mixer(tokens.flatten(1, 3)).unflatten(1, tokens.shape[1:4])
    back = [1 + order.index(axis) for axis in range(3)]
    return mixed.permute(0, 4, *back)
