"""Blocks of nnU-Net's U-Nets: convolution with norm, plain and residual stages, the decoder.

Source: F. Isensee et al., "nnU-Net Revisited", arXiv 2404.09556, in the names and shapes of its
checkpoints, without the aliases that those repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.inputs import check_channels, check_multiple, check_per_stage

Extents = Sequence[int]
NORMS = {"instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}


@dataclass(frozen=True)
class BlockStyle:
    """Choices that all convolutions of a network share.

    Attributes
    ----------
    bias
        Whether convolutions have one; shortcuts never do.
    eps
        Added to the variance in norms.
    norm
        A key of :data:`NORMS`.
    slope
        Of the leaky ReLU below zero; 0 makes it a ReLU.
    """

    bias: bool
    eps: float
    norm: str = "instance"
    slope: float = 0.01

    def make_norm(self, channels: int) -> nn.Module:
        """Make a norm with trained scale and shift."""
        return NORMS[self.norm](channels, eps=self.eps, affine=True)

    def activate(self, volume: torch.Tensor) -> torch.Tensor:
        """Apply the activation to a tensor of any shape."""
        return F.leaky_relu(volume, self.slope)


class ConvNorm(nn.Module):
    """Convolution and norm."""

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
        depth, height, width = kernel
        self.conv = nn.Conv3d(
            in_channels,
            channels,
            (depth, height, width),
            tuple(stride),  # type: ignore[arg-type]
            padding=(depth // 2, height // 2, width // 2),
            bias=style.bias,
        )
        self.norm = style.make_norm(channels)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, D, H, W) -> (B, channels, D', H', W')."""
        result: torch.Tensor = self.norm(self.conv(volume))
        return result


class ConvStage(nn.Module):
    """Convolutions with norm and activation; the first one changes resolution and width."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Extents,
        *,
        depth: int = 1,
        stride: Extents = (1, 1, 1),
        style: BlockStyle,
    ):
        super().__init__()
        self.style = style
        first = ConvNorm(in_channels, channels, kernel, stride=stride, style=style)
        others = (ConvNorm(channels, channels, kernel, style=style) for _ in range(depth - 1))
        self.convs = nn.ModuleList([first, *others])

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, D, H, W) -> (B, channels, D', H', W')."""
        for conv in self.convs:
            volume = self.style.activate(conv(volume))
        return volume


class BasicBlock(nn.Module):
    """Two convolutions; the shortcut is averaged where strided, projected where wider."""

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
        self.conv1 = ConvNorm(in_channels, channels, kernel, stride=stride, style=style)
        self.conv2 = ConvNorm(channels, channels, kernel, style=style)
        shortcut: list[nn.Module] = []
        if any(step != 1 for step in stride):
            shortcut.append(nn.AvgPool3d(tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if in_channels != channels:
            unbiased = BlockStyle(False, style.eps, style.norm, style.slope)
            shortcut.append(ConvNorm(in_channels, channels, (1, 1, 1), style=unbiased))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, D, H, W) -> (B, channels, D', H', W')."""
        hidden = self.conv2(self.style.activate(self.conv1(volume)))
        return self.style.activate(hidden + self.skip(volume))


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
        style: BlockStyle,
    ):
        super().__init__()
        first = BasicBlock(in_channels, channels, kernel, stride=stride, style=style)
        others = (BasicBlock(channels, channels, kernel, style=style) for _ in range(depth - 1))
        self.blocks = nn.Sequential(first, *others)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, D, H, W) -> (B, channels, D', H', W')."""
        result: torch.Tensor = self.blocks(volume)
        return result


class Decoder(nn.Module):
    """Transposed convolutions and stages up to full resolution.

    Checkpoints hold a classifier for every level, which training supervises; the last
    one gives the result.

    Parameters
    ----------
    config
        Keys ``features_per_stage``, ``kernel_sizes``, ``strides``, ``num_classes`` and
        ``n_conv_per_stage_decoder``, stages from fine to coarse, levels from coarse to fine.
    stage
        Kind of the stages after each enlargement.
    style
        Choices of the network.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        stage: type[ConvStage] | type[ResidualStage],
        style: BlockStyle,
    ):
        super().__init__()
        widths, kernels = config["features_per_stage"][::-1], config["kernel_sizes"][::-1]
        strides = config["strides"][:0:-1]
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, tuple(stride), tuple(stride), bias=style.bias)
            for coarse, fine, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.stages = nn.ModuleList(
            stage(2 * width, width, kernel, depth=depth, style=style)
            for width, kernel, depth in zip(
                widths[1:], kernels[1:], config["n_conv_per_stage_decoder"], strict=True
            )
        )
        self.seg_layers = nn.ModuleList(
            nn.Conv3d(width, config["num_classes"], 1) for width in widths[1:]
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Feature volumes, finest first -> logits at full resolution."""
        *skips, decoded = features
        for up, stage in zip(self.transpconvs, self.stages, strict=True):
            decoded = stage(torch.cat((up(decoded), skips.pop()), dim=1))
        logits: torch.Tensor = self.seg_layers[-1](decoded)
        return logits


def downsampling(strides: list[list[int]]) -> tuple[int, int, int]:
    """Product of all strides along depth, height and width."""
    depth, height, width = (1, 1, 1)
    for stride in strides:
        depth, height, width = depth * stride[0], height * stride[1], width * stride[2]
    return depth, height, width


class PlannedUNet(nn.Module):
    """Base of U-Nets whose stages nnU-Net's plans describe; subclasses make both halves.

    Parameters
    ----------
    config
        Keys ``input_channels``, ``features_per_stage``, ``kernel_sizes``, ``strides`` and
        ``n_conv_per_stage_encoder``, and those of the network itself.

    Attributes
    ----------
    encoder
        Turns a volume into a feature volume of every stage, finest first.
    decoder
        Turns these into logits.

    Raises
    ------
    ValueError
        A list without an entry for each stage.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        stages = len(config["features_per_stage"])
        per_stage = ("kernel_sizes", "strides", "n_conv_per_stage_encoder")
        check_per_stage(config, per_stage, stages, type(self).__name__)
        self.config = config

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into one feature volume for each stage, finest first."""
        features: list[torch.Tensor] = self.encoder(volume)
        return features

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Compute the logits of a volume.

        Parameters
        ----------
        volume
            Shape (B, input_channels, D, H, W), normalised intensities; extents are
            multiples of :func:`downsampling`.

        Returns
        -------
        torch.Tensor
            Shape (B, num_classes, D, H, W), before softmax or sigmoid.

        Raises
        ------
        ValueError
            Wrong number of axes or channels, or extents that the stages cannot divide.
        """
        check_channels(volume, self.config["input_channels"])
        check_multiple(volume, downsampling(self.config["strides"]))
        logits: torch.Tensor = self.decoder(self.features(volume))
        return logits
