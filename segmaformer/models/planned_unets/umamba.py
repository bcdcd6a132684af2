"""U-Mamba Bot and Enc: nnU-Net's residual U-Net with Mamba at the bottom or in every stage.

Source: J. Ma, F. Li and B. Wang, "U-Mamba: Enhancing Long-range Dependency for Biomedical
Image Segmentation", arXiv 2401.04722. Its code changed on 27 March 2024: `generation` 1 is the
pair before, with nnU-Net's residual encoder and transposed convolutions, 2 the pair since.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from segmaformer.models.planned_unets.nnunet_blocks import (
    BlockStyle,
    ConvStage,
    PlannedUNet,
    ResidualStage,
)
from segmaformer.models.planned_unets.nnunet_blocks import Decoder as TransposedDecoder
from segmaformer.models.planned_unets.umamba_blocks import (
    ChannelLayer,
    Upsample,
    make_mixer,
    residual_stage,
    voxel_layer,
)

GENERATIONS = (1, 2)


def stage_voxels(input_size: list[int], strides: list[list[int]]) -> list[int]:
    """Voxels of each stage for a tile of `input_size`, rounded down as the authors count them."""
    grid, counts = list(input_size), []
    for stride in strides:
        grid = [extent // step for extent, step in zip(grid, stride, strict=True)]
        counts.append(math.prod(grid))
    return counts


def channel_tokens(config: dict[str, Any]) -> list[bool]:
    """Tell for each stage of an Enc whether its tokens are channels rather than voxels."""
    if config["generation"] == 1:
        return [False] * len(config["strides"])
    voxels = stage_voxels(config["input_size"], config["strides"])
    widths = config["features_per_stage"]
    return [count <= width for count, width in zip(voxels, widths, strict=True)]


def has_layer(config: dict[str, Any], stage: int) -> bool:
    """Tell if an Enc has a Mamba layer after a stage: its 2-D form has one after every other."""
    stages = len(config["strides"])
    return not config["planar"] or stage % 2 != stages % 2


def style_of(config: dict[str, Any]) -> BlockStyle:
    """Choices that the code fixes, whatever the plans say."""
    return BlockStyle(bias=True, eps=config["norm_eps"])


class Encoder(nn.Module):
    """Residual stages, each with a layer after it.

    Parameters
    ----------
    config
        All keys of :data:`ENC_DEFAULTS` or :data:`BOT_DEFAULTS`.
    layers
        One for each stage; its result replaces the features.
    """

    def __init__(self, config: dict[str, Any], layers: list[nn.Module]):
        super().__init__()
        widths, kernels = config["features_per_stage"], config["kernel_sizes"]
        depths, style = config["n_conv_per_stage_encoder"], style_of(config)
        channels, before = config["input_channels"], [widths[0], *widths[:-1]]
        shapes = list(zip(before, widths, kernels, depths, config["strides"], strict=True))
        stages: list[nn.Module]
        self.stem: nn.Module
        if config["generation"] == 1:
            self.stem = ConvStage(channels, widths[0], kernels[0], style=style)
            stages = [
                ResidualStage(w0, w1, kernel, depth=depth, stride=stride, style=style)
                for w0, w1, kernel, depth, stride in shapes
            ]
        else:
            self.stem = residual_stage(
                channels, widths[0], kernels[0], depth=depths[0], style=style
            )
            stages = [
                residual_stage(w0, w1, kernel, depth=depth, stride=stride, style=style)
                for w0, w1, kernel, depth, stride in shapes
            ]
        self.stages = nn.ModuleList(stages)
        self.mamba_layers = nn.ModuleList(layers)

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W) -> a feature volume of every stage, finest first."""
        volume = self.stem(volume)
        features = []
        for stage, layer in zip(self.stages, self.mamba_layers, strict=True):
            volume = layer(stage(volume))
            features.append(volume)
        return features


class Decoder(nn.Module):
    """Enlarged and residually convolved features up to full resolution.

    Checkpoints hold a classifier for every level, which training supervises; the last
    one gives the result. The 2-D form takes no features of the encoder at full resolution.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.planar = config["planar"]
        widths, kernels = config["features_per_stage"][::-1], config["kernel_sizes"][::-1]
        levels = list(zip(widths, widths[1:], config["strides"][:0:-1], strict=False))
        self.upsample_layers = nn.ModuleList(
            Upsample(coarse, fine, stride) for coarse, fine, stride in levels
        )
        self.stages = nn.ModuleList(
            residual_stage(taken, width, kernel, depth=depth, style=style_of(config))
            for taken, width, kernel, depth in zip(
                [*(2 * width for width in widths[1:-1]), widths[-1] * (1 if self.planar else 2)],
                widths[1:],
                kernels[1:],
                config["n_conv_per_stage_decoder"],
                strict=True,
            )
        )
        self.seg_layers = nn.ModuleList(
            nn.Conv3d(width, config["num_classes"], 1) for width in widths[1:]
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Feature volumes, finest first -> logits at full resolution."""
        *skips, decoded = features
        for up, stage in zip(self.upsample_layers, self.stages, strict=True):
            decoded, skip = up(decoded), skips.pop()
            if skips or not self.planar:
                decoded = torch.cat((decoded, skip), dim=1)
            decoded = stage(decoded)
        logits: torch.Tensor = self.seg_layers[-1](decoded)
        return logits


class UMamba(PlannedUNet):
    """The encoder and decoder that both networks share.

    Parameters
    ----------
    config
        All keys of :data:`ENC_DEFAULTS` or :data:`BOT_DEFAULTS`. Numbers of blocks are those
        that the network has, after its thinning of the plan's (:func:`thinned`).

    Raises
    ------
    ValueError
        A list without an entry for each stage, or an unknown generation.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        if config["generation"] not in GENERATIONS:
            raise ValueError(f"generation is {config['generation']}; expected 1 or 2")
        self.encoder = Encoder(config, self._layers())
        if config["generation"] == 1:
            style = style_of(config)
            self.decoder = TransposedDecoder(config, stage=ResidualStage, style=style)
        else:
            self.decoder = Decoder(config)

    def _layers(self) -> list[nn.Module]:
        """Make a layer for each of the encoder's stages; those of the base change nothing."""
        return [nn.Identity() for _ in self.config["strides"]]


class UMambaBot(UMamba):
    """Mamba over the voxels of the coarsest stage, whose features it replaces."""

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        layer = voxel_layer(config, config["features_per_stage"][-1])
        if config["generation"] == 1:
            self.ln, self.mamba = layer.norm, layer.mamba
        else:
            self.mamba_layer = layer

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into one feature volume for each stage, finest first."""
        *skips, coarsest = super().features(volume)
        if self.config["generation"] == 1:
            tokens = self.mamba(self.ln(coarsest.flatten(2).transpose(1, 2)))
            return [*skips, tokens.transpose(1, 2).view_as(coarsest)]
        return [*skips, self.mamba_layer(coarsest)]


class UMambaEnc(UMamba):
    """Mamba after every stage, over its voxels or, where these are few, over its channels."""

    def _layers(self) -> list[nn.Module]:
        config = self.config
        widths = config["features_per_stage"]
        voxels = stage_voxels(config["input_size"], config["strides"])
        return [
            self._layer(config, width, count, over_channels)
            if has_layer(config, stage)
            else nn.Identity()
            for stage, (width, count, over_channels) in enumerate(
                zip(widths, voxels, channel_tokens(config), strict=True)
            )
        ]

    @staticmethod
    def _layer(config: dict[str, Any], width: int, voxels: int, over_channels: bool) -> nn.Module:
        if over_channels:
            return ChannelLayer(voxels, make_mixer(config, voxels))
        return voxel_layer(config, width)


def thinned(encoder: list[int], decoder: list[int]) -> tuple[list[int], list[int]]:
    """Blocks of each stage that a network of generation 2 makes of a plan's numbers.

    Parameters
    ----------
    encoder, decoder
        Blocks of each stage as planned, finest first in the encoder, coarsest first in the
        decoder.

    Returns
    -------
    encoder, decoder
        One block in the coarser half of the encoder and in the finer part of the decoder.
    """
    stages = len(encoder)
    kept, kept_up = math.ceil(stages / 2), math.ceil((stages - 1) / 2 + 0.5)
    return (
        [depth if stage < kept else 1 for stage, depth in enumerate(encoder)],
        [depth if level < kept_up else 1 for level, depth in enumerate(decoder)],
    )


BOT_DEFAULTS: dict[str, Any] = {
    "input_channels": 1,
    "num_classes": 14,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2, 2, 1, 1, 1],
    "n_conv_per_stage_decoder": [2, 2, 2, 1, 1],
    "norm_eps": 1e-5,
    "d_state": 16,
    "d_conv": 4,
    "expand": 2,
    "generation": 2,
    "planar": False,
    "deep_supervision": False,
}
"""nnU-Net's plan for abdominal CT."""

ENC_DEFAULTS: dict[str, Any] = {**BOT_DEFAULTS, "input_size": [48, 192, 192]}
"""The same with the tile, which decides what the Mamba layers take as tokens."""

PRESETS: dict[str, dict[str, Any]] = {"abdomen": {}}
