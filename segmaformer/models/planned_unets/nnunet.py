"""nnU-Net's own networks: the plain U-Net and the residual encoder U-Net.

Sources: F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical
image segmentation", Nature Methods 18 (2021), and "nnU-Net Revisited", arXiv 2404.09556, in the
names and shapes of their checkpoints.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from segmaformer.models.planned_unets.nnunet_blocks import (
    NORMS,
    BlockStyle,
    ConvStage,
    Decoder,
    PlannedUNet,
    ResidualStage,
)


class Encoder(nn.Module):
    """A stem, then stages; subclasses make both."""

    stem: nn.Module
    stages: nn.ModuleList

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W) -> a feature volume of every stage, finest first."""
        volume = self.stem(volume)
        features = []
        for stage in self.stages:
            volume = stage(volume)
            features.append(volume)
        return features


class PlainEncoder(Encoder):
    """Convolutional stages."""

    def __init__(self, config: dict[str, Any], style: BlockStyle):
        super().__init__()
        widths = config["features_per_stage"]
        self.stem = nn.Identity()
        # Checkpoints number the one module of each stage.
        self.stages = nn.ModuleList(
            nn.Sequential(ConvStage(before, width, kernel, depth=depth, stride=stride, style=style))
            for before, width, kernel, depth, stride in zip(
                [config["input_channels"], *widths[:-1]],
                widths,
                config["kernel_sizes"],
                config["n_conv_per_stage_encoder"],
                config["strides"],
                strict=True,
            )
        )


class ResidualEncoder(Encoder):
    """A convolution, then residual stages."""

    def __init__(self, config: dict[str, Any], style: BlockStyle):
        super().__init__()
        widths, kernels = config["features_per_stage"], config["kernel_sizes"]
        self.stem = ConvStage(config["input_channels"], widths[0], kernels[0], style=style)
        self.stages = nn.ModuleList(
            ResidualStage(before, width, kernel, depth=depth, stride=stride, style=style)
            for before, width, kernel, depth, stride in zip(
                [widths[0], *widths[:-1]],
                widths,
                kernels,
                config["n_conv_per_stage_encoder"],
                config["strides"],
                strict=True,
            )
        )


class PlainUNet(PlannedUNet):
    """nnU-Net's plain U-Net; ``PlainConvUNet`` in plans.

    Parameters
    ----------
    config
        All keys of :data:`PLAIN_DEFAULTS`. `deep_supervision` only tells how it was trained.

    Raises
    ------
    ValueError
        A list without an entry for each stage, or an unknown norm.
    """

    encoder_class: ClassVar[type[PlainEncoder] | type[ResidualEncoder]] = PlainEncoder

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        if config["norm"] not in NORMS:
            raise ValueError(f"norm is {config['norm']!r}; known: {', '.join(NORMS)}")
        style = BlockStyle(
            config["conv_bias"], config["norm_eps"], config["norm"], config["negative_slope"]
        )
        self.encoder = self.encoder_class(config, style)
        self.decoder = Decoder(config, stage=ConvStage, style=style)


class ResidualEncoderUNet(PlainUNet):
    """nnU-Net's U-Net with a residual encoder, of its presets M, L and XL among others."""

    encoder_class = ResidualEncoder


PLAIN_DEFAULTS: dict[str, Any] = {
    "input_channels": 1,
    "num_classes": 14,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2, 2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2, 2, 2, 2],
    "conv_bias": True,
    "norm": "instance",
    "norm_eps": 1e-5,
    "negative_slope": 0.01,
    "deep_supervision": False,
}
"""nnU-Net's plan for abdominal CT."""

RESENC_DEFAULTS: dict[str, Any] = {
    **PLAIN_DEFAULTS,
    "n_conv_per_stage_encoder": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1, 1, 1, 1, 1],
}
"""The same with the blocks of the preset M."""

PRESETS: dict[str, dict[str, Any]] = {"abdomen": {}}
