"""Blocks of U-Mamba: residual blocks with a projected shortcut, and Mamba in place of features.

Source: J. Ma, F. Li and B. Wang, "U-Mamba: Enhancing Long-range Dependency for Biomedical
Image Segmentation", arXiv 2401.04722. Parameter names are those of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.layers.mamba import Mamba
from segmaformer.models.planned_unets.nnunet_blocks import BasicBlock, BlockStyle, Extents
from segmaformer.models.planned_unets.taming_blocks import RasterLayer


class ProjectedBlock(nn.Module):
    """Two convolutions beside a shortcut of one voxel's reach, which has no norm."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Extents,
        *,
        stride: Extents = (1, 1, 1),
        style: BlockStyle,
    ):
        super().__init__()
        self.style = style
        depth, height, width = kernel
        size, step = (depth, height, width), (stride[0], stride[1], stride[2])
        padding = (depth // 2, height // 2, width // 2)
        self.conv1 = nn.Conv3d(in_channels, channels, size, step, padding)
        self.norm1 = style.make_norm(channels)
        self.conv2 = nn.Conv3d(channels, channels, size, padding=padding)
        self.norm2 = style.make_norm(channels)
        self.conv3 = nn.Conv3d(in_channels, channels, 1, step)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, D, H, W) -> (B, channels, D', H', W')."""
        hidden = self.style.activate(self.norm1(self.conv1(volume)))
        hidden = self.norm2(self.conv2(hidden))
        return self.style.activate(hidden + self.conv3(volume))


def residual_stage(
    in_channels: int,
    channels: int,
    kernel: Extents,
    *,
    depth: int,
    stride: Extents = (1, 1, 1),
    style: BlockStyle,
) -> nn.Sequential:
    """Make `depth` blocks, the first of which changes resolution and width."""
    first = ProjectedBlock(in_channels, channels, kernel, stride=stride, style=style)
    others = (BasicBlock(channels, channels, kernel, style=style) for _ in range(depth - 1))
    return nn.Sequential(first, *others)


class ChannelLayer(nn.Module):
    """Layer norm and a mixer over the channels, each a token whose features are its voxels."""

    def __init__(self, voxels: int, mixer: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(voxels)
        self.mamba = mixer

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> the same shape; D * H * W is the layer's `voxels`."""
        return self.mamba(self.norm(volume.flatten(2))).view_as(volume)


def make_mixer(config: Mapping[str, Any], channels: int) -> Mamba:
    """Make a Mamba layer of the network's sizes for tokens of `channels` features."""
    return Mamba(
        channels, d_state=config["d_state"], d_conv=config["d_conv"], expand=config["expand"]
    )


def voxel_layer(config: Mapping[str, Any], channels: int) -> RasterLayer:
    """Make a layer whose tokens are voxels, in raster order."""
    return RasterLayer(channels, lambda width: make_mixer(config, width))


class Upsample(nn.Module):
    """Nearest-neighbour enlargement and a convolution of one voxel's reach.

    The two commute exactly, so the convolution runs on the smaller grid.
    """

    def __init__(self, in_channels: int, channels: int, factors: Extents):
        super().__init__()
        self.factors = [float(factor) for factor in factors]
        self.conv = nn.Conv3d(in_channels, channels, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, D, H, W) -> (B, channels, D * fd, H * fh, W * fw)."""
        return F.interpolate(self.conv(volume), scale_factor=self.factors, mode="nearest")
