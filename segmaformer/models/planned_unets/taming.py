"""The Taming Mambas networks: a residual U-Net with a Mamba layer in every encoder stage.

Source: L. Lumetti et al., "Taming Mambas for Voxel Level 3D Medical Image Segmentation",
arXiv 2410.15496, in the names and shapes of its checkpoints. The four networks differ in how a
stage scans its voxels, and in whether the scanned volume goes on to the next stage.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import nn

from segmaformer.models.planned_unets.nnunet_blocks import (
    BlockStyle,
    ConvStage,
    Decoder,
    PlannedUNet,
    ResidualStage,
)
from segmaformer.models.planned_unets.taming_blocks import (
    FourOrdersLayer,
    MambaBlock,
    RasterLayer,
    TwoWayMambaBlock,
)


def state_limit(rule: str) -> int:
    """Return the largest state size that a `d_state_rule` such as ``min(channels, 256)`` allows.

    Raises
    ------
    ValueError
        The rule has another form.
    """
    found = re.fullmatch(r"min\(channels, ([1-9][0-9]*)\)", rule)
    if found is None:
        raise ValueError(f"d_state_rule is {rule!r}; expected a form such as 'min(channels, 256)'")
    return int(found[1])


class Encoder(nn.Module):
    """Residual stages with a Mamba layer after each.

    Parameters
    ----------
    config
        All keys of :data:`DEFAULTS`.
    layer, mixer
        Layer over a stage's voxels and its mixer; see :class:`TamingNetwork`.
    scan_goes_down
        Whether the next stage takes the scanned volume, or only the skip connection does.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        layer: type[RasterLayer] | type[FourOrdersLayer],
        mixer: type[MambaBlock] | type[TwoWayMambaBlock],
        scan_goes_down: bool,
    ):
        super().__init__()
        self.scan_goes_down = scan_goes_down
        widths, kernels = config["features_per_stage"], config["kernel_sizes"]
        style = BlockStyle(config["conv_bias"], config["norm_eps"])
        limit = state_limit(config["d_state_rule"])

        def make_mixer(channels: int) -> nn.Module:
            return mixer(
                channels,
                d_state=min(channels, limit),
                d_conv=config["d_conv"],
                expand=config["expand"],
            )

        self.stem = ConvStage(config["input_channels"], widths[0], kernels[0], style=style)
        self.stages = nn.ModuleList(
            ResidualStage(
                widths[max(stage - 1, 0)],
                width,
                kernels[stage],
                depth=config["n_conv_per_stage_encoder"][stage],
                stride=config["strides"][stage],
                style=style,
            )
            for stage, width in enumerate(widths)
        )
        self.mamba_layers = nn.ModuleList(layer(width, make_mixer) for width in widths)

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into one feature volume for each stage, finest first."""
        volume = self.stem(volume)
        features = []
        for stage, layer in zip(self.stages, self.mamba_layers, strict=True):
            volume = stage(volume)
            features.append(layer(volume))
            if self.scan_goes_down:
                volume = features[-1]
        return features


class TamingNetwork(PlannedUNet):
    """Base of the four networks.

    Parameters
    ----------
    config
        All keys of :data:`DEFAULTS`. `deep_supervision` only records how it was trained.

    Attributes
    ----------
    layer
        Class of the layer that turns the voxels of a stage into sequences.
    mixer
        Class of the block that scans a sequence.
    scan_goes_down
        Whether the next stage takes the scanned volume, or only the skip connection does.
    """

    layer: ClassVar[type[RasterLayer] | type[FourOrdersLayer]] = RasterLayer
    mixer: ClassVar[type[MambaBlock] | type[TwoWayMambaBlock]] = MambaBlock
    scan_goes_down: ClassVar[bool] = True

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        self.encoder = Encoder(
            config, layer=self.layer, mixer=self.mixer, scan_goes_down=self.scan_goes_down
        )
        style = BlockStyle(config["conv_bias"], config["norm_eps"])
        self.decoder = Decoder(config, stage=ResidualStage, style=style)


class TamingSegMamba(TamingNetwork):
    """Network with one forward scan over every stage."""


class TamingBiSegMamba(TamingNetwork):
    """Network with a scan in either direction; ``PanSegMamba`` in the authors' code."""

    mixer = TwoWayMambaBlock


class TamingMultiSegMamba(TamingNetwork):
    """Network with a scan in either direction for four orders of the axes."""

    layer = FourOrdersLayer
    mixer = TwoWayMambaBlock


class TamingSegMambaSkip(TamingNetwork):
    """Network with a scan in either direction on the skip connections and at the bottom only."""

    mixer = TwoWayMambaBlock
    scan_goes_down = False


DEFAULTS: dict[str, Any] = {
    "input_channels": 1,
    "num_classes": 14,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    "n_conv_per_stage_encoder": [2, 2, 2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2, 2, 2, 2],
    "conv_bias": True,
    "norm_eps": 1e-5,
    "d_state_rule": "min(channels, 256)",
    "d_conv": 4,
    "expand": 2,
    "deep_supervision": False,
}
"""Configuration of nnU-Net's plan for abdominal CT."""

MULTI_DEFAULTS: dict[str, Any] = {**DEFAULTS, "d_state_rule": "min(channels, 64)"}
"""The same for :class:`TamingMultiSegMamba`, which has fewer states."""

PRESETS: dict[str, dict[str, Any]] = {"abdomen": {}}
