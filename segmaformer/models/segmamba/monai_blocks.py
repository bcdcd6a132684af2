"""Residual blocks of the U-shaped decoders, with MONAI's parameter names.

Source of the names and the order of layers: ``monai.networks.blocks`` (UnetResBlock,
UnetrBasicBlock, UnetrUpBlock, ResBlock). Instance norms have no parameters here.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SLOPE = 0.01


class Conv(nn.Module):
    """Convolution under the key ``conv``, as in published checkpoints."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, *, stride: int = 1, bias: bool = False
    ):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=bias)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D', H', W')."""
        result: torch.Tensor = self.conv(volume)
        return result


class DoublingConv(nn.Module):
    """Transposed convolution that doubles the grid, under the key ``conv``."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv = nn.ConvTranspose3d(in_channels, channels, 2, stride=2, bias=False)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, 2D, 2H, 2W)."""
        result: torch.Tensor = self.conv(volume)
        return result


class ResidualBlock(nn.Module):
    """Two convolutions, norms after them; the shortcut is projected if channels change."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv1 = Conv(in_channels, channels, 3)
        self.conv2 = Conv(channels, channels, 3)
        if in_channels != channels:
            self.conv3 = Conv(in_channels, channels, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D, H, W)."""
        hidden = F.leaky_relu(F.instance_norm(self.conv1(volume)), SLOPE)
        hidden = F.instance_norm(self.conv2(hidden))
        if hasattr(self, "conv3"):
            volume = F.instance_norm(self.conv3(volume))
        return F.leaky_relu(hidden + volume, SLOPE)


class SkipBlock(nn.Module):
    """Residual block under the key ``layer``."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.layer = ResidualBlock(in_channels, channels)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, D, H, W) to (B, channels, D, H, W)."""
        result: torch.Tensor = self.layer(volume)
        return result


class UpBlock(nn.Module):
    """Block that doubles the grid, joins the skip connection, and filters both."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.transp_conv = DoublingConv(in_channels, channels)
        self.conv_block = ResidualBlock(2 * channels, channels)

    def forward(self, volume: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Join (B, in_channels, D, H, W) to a skip, (B, channels, 2D, 2H, 2W), in whose shape."""
        joined = torch.cat((self.transp_conv(volume), skip), dim=1)
        result: torch.Tensor = self.conv_block(joined)
        return result


class PreActivationBlock(nn.Module):
    """Group norm and ReLU before each of two convolutions, and the identity beside them."""

    def __init__(self, channels: int, *, groups: int = 8):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv1 = Conv(channels, channels, 3)
        self.conv2 = Conv(channels, channels, 3)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Filter a (B, C, D, H, W) volume; returns the same shape."""
        hidden = self.conv1(F.relu(self.norm1(volume)))
        hidden = self.conv2(F.relu(self.norm2(hidden)))
        return hidden + volume


class PointwiseMLP(nn.Module):
    """Two 1x1x1 convolutions with a GELU between them."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.fc1 = nn.Conv3d(channels, ratio * channels, 1)
        self.fc2 = nn.Conv3d(ratio * channels, channels, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Apply the layers to a (B, C, D, H, W) volume; returns the same shape."""
        result: torch.Tensor = self.fc2(F.gelu(self.fc1(volume)))
        return result
