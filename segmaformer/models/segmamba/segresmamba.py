"""SegResMamba: SegMamba's encoder with its scan at half resolution, SegResNet's decoder.

Source: B. Das et al., "SegResMamba: An Efficient Architecture for 3D Medical Image
Segmentation", arXiv 2503.07766. The published code builds the Mamba layers and never
calls them; `use_tom` runs them where the paper's figure has the first of each pair.
Its checkpoints also hold a SegResNet encoder and head without effect, kept here so that
every name has its place.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.inputs import check_channels, check_multiple, check_per_stage
from segmaformer.models.segmamba.monai_blocks import Conv, PointwiseMLP, PreActivationBlock
from segmaformer.models.segmamba.tri_mamba import TriMambaLayer

STAGES = 4
DOWNSAMPLING = 16
_UNUSED_CHANNELS = 4
_UNUSED_DEPTHS = (1, 2, 2, 4)


class HalfResolutionBlock(nn.Module):
    """Convolutions, and optionally the Mamba layer, at half resolution; plus the identity."""

    def __init__(self, config: dict[str, Any], stage: int):
        super().__init__()
        channels = config["feat_size"][stage]
        self.use_tom = config["use_tom"]
        self.proj = nn.Conv3d(channels, channels, 5, stride=2, padding=2)
        self.proj3 = nn.Conv3d(channels, channels, 3, padding=1)
        self.mamba_layer = TriMambaLayer(
            channels,
            d_state=config["d_state"],
            d_conv=config["d_conv"],
            expand=config["expand"],
            nslices=config["nslices"][stage],
            residual=False,
        )
        self.proj4 = nn.Conv3d(channels, channels, 3, padding=1)
        self.proj5 = nn.ConvTranspose3d(
            channels, channels, 5, stride=2, padding=2, output_padding=1
        )

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Filter a (B, C, D, H, W) volume; returns the same shape."""
        hidden = F.relu(F.instance_norm(self.proj(volume)))
        hidden = F.relu(F.instance_norm(self.proj3(hidden)))
        if self.use_tom:
            hidden = self.mamba_layer(_even(hidden))
        hidden = F.relu(F.instance_norm(self.proj4(hidden)))
        hidden = F.relu(F.instance_norm(self.proj5(hidden)))
        # Doubling a halved odd extent gives one voxel too many; the first one is dropped.
        first = [double - single for double, single in zip(hidden.shape, volume.shape, strict=True)]
        return hidden[:, :, first[2] :, first[3] :, first[4] :] + volume


def _even(volume: torch.Tensor) -> torch.Tensor:
    """Refuse odd extents: the published code's padding of them leaves no trace in a result."""
    extents = tuple(volume.shape[2:])
    if any(extent % 2 for extent in extents):
        raise ValueError(
            f"the Mamba layer is left with a grid of {extents}; its extents must be even: "
            "use an input whose extents are multiples of 64"
        )
    return volume


class Encoder(nn.Module):
    """Four stages, each at half the resolution of the one before."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        widths = config["feat_size"]
        stem = nn.Conv3d(config["in_chans"], widths[0], 7, stride=2, padding=3)
        halvings = [
            nn.Sequential(
                nn.InstanceNorm3d(fine),
                nn.Conv3d(fine, fine, 3, padding=1),
                nn.InstanceNorm3d(fine),
                nn.Conv3d(fine, coarse, 2, stride=2),
            )
            for fine, coarse in itertools.pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([nn.Sequential(stem), *halvings])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv3d(width, width, 3, padding=1)) for width in widths
        )
        self.gscs = nn.ModuleList(HalfResolutionBlock(config, stage) for stage in range(STAGES))
        self.mlps = nn.ModuleList(PointwiseMLP(width, config["mlp_ratio"]) for width in widths)

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into four feature volumes, finest first."""
        features = []
        for stage in range(STAGES):
            volume = self.gscs[stage](self.downsample_layers[stage](volume))
            volume = self.stages[stage](volume)
            features.append(self.mlps[stage](F.instance_norm(volume)))
        return features


class Decoder(nn.Module):
    """SegResNet's decoder; `convInit`, `down_layers` and `conv_final` are never called."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.convInit = Conv(_UNUSED_CHANNELS, widths[0], 3)
        self.down_layers = nn.ModuleList(_unused_stage(widths, stage) for stage in range(STAGES))
        coarse_to_fine = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up_layers = nn.ModuleList(
            nn.Sequential(PreActivationBlock(fine)) for _, fine in coarse_to_fine
        )
        self.up_samples = nn.ModuleList(
            nn.Sequential(Conv(coarse, fine, 1), nn.Upsample(scale_factor=2, mode="trilinear"))
            for coarse, fine in coarse_to_fine
        )
        self.conv_final = nn.Sequential(
            nn.GroupNorm(8, widths[0]),
            nn.ReLU(),
            Conv(widths[0], _UNUSED_CHANNELS, 1, bias=True),
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Turn four (B, C, D, H, W) volumes, finest first, into one on the finest grid."""
        *skips, decoded = features
        for up, layer in zip(self.up_samples, self.up_layers, strict=True):
            decoded = layer(up(decoded) + skips.pop())
        return decoded


def _unused_stage(widths: list[int], stage: int) -> nn.Sequential:
    entry = Conv(widths[stage - 1], widths[stage], 3, stride=2) if stage else nn.Identity()
    blocks = (PreActivationBlock(widths[stage]) for _ in range(_UNUSED_DEPTHS[stage]))
    return nn.Sequential(entry, *blocks)


class SegResMamba(nn.Module):
    """The whole network.

    Parameters
    ----------
    config
        All keys of :data:`DEFAULTS`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        check_per_stage(config, ("feat_size", "nslices"), STAGES, "SegResMamba")
        self.config = config
        self.vit = Encoder(config)
        self.segresnet = Decoder(config["feat_size"])
        self.out = nn.ConvTranspose3d(config["feat_size"][0], config["out_chans"], 2, stride=2)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Compute the logits of a volume.

        Parameters
        ----------
        volume
            Shape (B, in_chans, D, H, W), normalised intensities; extents are multiples
            of 16.

        Returns
        -------
        torch.Tensor
            Shape (B, out_chans, D, H, W), before sigmoid.

        Raises
        ------
        ValueError
            The number of axes or channels is wrong, or the network cannot halve the extents four
            times, or six times with `use_tom`.
        """
        check_channels(volume, self.config["in_chans"])
        check_multiple(volume, (DOWNSAMPLING,) * 3)
        logits: torch.Tensor = self.out(self.segresnet(self.vit(volume)))
        return logits


DEFAULTS: dict[str, Any] = {
    "in_chans": 4,
    "out_chans": 3,
    "feat_size": [48, 96, 192, 384],
    "mlp_ratio": 2,
    "d_state": 16,
    "d_conv": 4,
    "expand": 2,
    "nslices": [4, 4, 4, 4],
    "use_tom": False,
}
"""The authors' BraTS 2021 configuration."""

PRESETS: dict[str, dict[str, Any]] = {"brats": {}}
