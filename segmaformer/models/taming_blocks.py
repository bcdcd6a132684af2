"""Blocks of the Taming Mambas networks: nnU-Net's residual blocks and Mamba layers.

Sources: L. Lumetti et al., "Taming Mambas for Voxel Level 3D Medical Image Segmentation",
arXiv 2410.15496, and nnU-Net's residual encoder (``dynamic_network_architectures``).
Parameter names are those of the checkpoints, without the aliases that those repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.mamba import Mamba
from segmaformer.models.transformer import grid_of, to_tokens, to_volume

SLOPE = 0.01
Extents = Sequence[int]
MakeMixer = Callable[[int], nn.Module]


class ConvNorm(nn.Module):
    """Convolution and instance norm."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Extents,
        *,
        stride: Extents = (1, 1, 1),
        bias: bool,
        eps: float,
    ):
        super().__init__()
        depth, height, width = kernel
        self.conv = nn.Conv3d(
            in_channels,
            channels,
            (depth, height, width),
            tuple(stride),  # type: ignore[arg-type]
            padding=(depth // 2, height // 2, width // 2),
            bias=bias,
        )
        self.norm = nn.InstanceNorm3d(channels, eps=eps, affine=True)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D', H', W')."""
        result: torch.Tensor = self.norm(self.conv(volume))
        return result


class Stem(nn.Module):
    """One convolution, norm and leaky ReLU before the first stage."""

    def __init__(self, in_channels: int, channels: int, kernel: Extents, *, bias: bool, eps: float):
        super().__init__()
        self.convs = nn.ModuleList([ConvNorm(in_channels, channels, kernel, bias=bias, eps=eps)])

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D, H, W)."""
        return F.leaky_relu(self.convs[0](volume), SLOPE)


class BasicBlock(nn.Module):
    """Two convolutions; the shortcut is averaged if strided, projected if wider."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Extents,
        *,
        stride: Extents = (1, 1, 1),
        bias: bool,
        eps: float,
    ):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, channels, kernel, stride=stride, bias=bias, eps=eps)
        self.conv2 = ConvNorm(channels, channels, kernel, bias=bias, eps=eps)
        shortcut: list[nn.Module] = []
        if any(step != 1 for step in stride):
            shortcut.append(nn.AvgPool3d(tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if in_channels != channels:
            shortcut.append(ConvNorm(in_channels, channels, (1, 1, 1), bias=False, eps=eps))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D', H', W')."""
        hidden = self.conv2(F.leaky_relu(self.conv1(volume), SLOPE))
        return F.leaky_relu(hidden + self.skip(volume), SLOPE)


class ResidualStage(nn.Module):
    """Basic blocks; the first one changes resolution and width."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Extents,
        *,
        depth: int,
        stride: Extents = (1, 1, 1),
        bias: bool,
        eps: float,
    ):
        super().__init__()
        first = BasicBlock(in_channels, channels, kernel, stride=stride, bias=bias, eps=eps)
        others = (
            BasicBlock(channels, channels, kernel, bias=bias, eps=eps) for _ in range(depth - 1)
        )
        self.blocks = nn.Sequential(first, *others)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D', H', W')."""
        result: torch.Tensor = self.blocks(volume)
        return result


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
