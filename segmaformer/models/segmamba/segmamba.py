"""SegMamba: tri-orientated Mamba stages behind gated convolutions, and a UNETR decoder.

Source: Z. Xing et al., "SegMamba: Long-range Sequential Modeling Mamba For 3D Medical
Image Segmentation", arXiv 2401.13560, as published in code: the gated convolution adds
its branches, and an instance norm with a pointwise MLP stands where the paper has its
feature-level uncertainty estimation. Parameter names are those of the checkpoints.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.inputs import check_channels, check_multiple, check_per_stage
from segmaformer.models.segmamba.monai_blocks import Conv, PointwiseMLP, SkipBlock, UpBlock
from segmaformer.models.segmamba.tri_mamba import TriMambaLayer

STAGES = 4
DOWNSAMPLING = 16


class GatedConv(nn.Module):
    """Two 3x3x3 convolutions beside a 1x1x1 one, their sum mixed, and the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Conv3d(channels, channels, 3, padding=1)
        self.proj2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.proj3 = nn.Conv3d(channels, channels, 1)
        self.proj4 = nn.Conv3d(channels, channels, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Filter a (B, C, D, H, W) volume; returns the same shape."""
        wide = F.relu(F.instance_norm(self.proj(volume)))
        wide = F.relu(F.instance_norm(self.proj2(wide)))
        point = F.relu(F.instance_norm(self.proj3(volume)))
        return F.relu(F.instance_norm(self.proj4(wide + point))) + volume


class Encoder(nn.Module):
    """Four stages, each at half the resolution of the one before."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        widths = config["feat_size"]
        stem = nn.Conv3d(config["in_chans"], widths[0], 7, stride=2, padding=3)
        halvings = [
            nn.Sequential(nn.InstanceNorm3d(fine), nn.Conv3d(fine, coarse, 2, stride=2))
            for fine, coarse in itertools.pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([nn.Sequential(stem), *halvings])
        self.gscs = nn.ModuleList(GatedConv(width) for width in widths)
        self.stages = nn.ModuleList(_mamba_layers(config, stage) for stage in range(STAGES))
        self.mlps = nn.ModuleList(PointwiseMLP(width, config["mlp_ratio"]) for width in widths)

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into four feature volumes, finest first."""
        features = []
        for stage in range(STAGES):
            volume = self.gscs[stage](self.downsample_layers[stage](volume))
            volume = self.stages[stage](volume)
            features.append(self.mlps[stage](F.instance_norm(volume)))
        return features


def _mamba_layers(config: dict[str, Any], stage: int) -> nn.Sequential:
    nslices = config["nslices"]
    return nn.Sequential(
        *(
            TriMambaLayer(
                config["feat_size"][stage],
                d_state=config["d_state"],
                d_conv=config["d_conv"],
                expand=config["expand"],
                nslices=None if nslices is None else nslices[stage],
                residual=config["mamba_residual"],
            )
            for _ in range(config["depths"][stage])
        )
    )


class Head(nn.Module):
    """Classifying convolution under the key ``conv``."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.conv = Conv(channels, classes, 1, bias=True)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Classify (B, channels, D, H, W) features; returns (B, classes, D, H, W)."""
        logits: torch.Tensor = self.conv(volume)
        return logits


class SegMamba(nn.Module):
    """The whole network.

    Parameters
    ----------
    config
        All keys of :data:`DEFAULTS`. `nslices` None omits the scan across slices;
        `mamba_residual` adds the identity around each Mamba layer.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        lists = ("feat_size", "depths", *(["nslices"] if config["nslices"] is not None else []))
        check_per_stage(config, lists, STAGES, "SegMamba")
        self.config = config
        widths = (*config["feat_size"], config["hidden_size"])
        self.vit = Encoder(config)
        self.encoder1 = SkipBlock(config["in_chans"], widths[0])
        for stage in range(STAGES):
            self.add_module(f"encoder{stage + 2}", SkipBlock(widths[stage], widths[stage + 1]))
        for level in range(STAGES, 0, -1):
            self.add_module(f"decoder{level + 1}", UpBlock(widths[level], widths[level - 1]))
        self.decoder1 = SkipBlock(widths[0], widths[0])
        self.out = Head(widths[0], config["out_chans"])

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
            Shape (B, out_chans, D, H, W), before softmax.

        Raises
        ------
        ValueError
            The number of axes or channels is wrong, or the network cannot halve the extents four
            times or cut them into its slices.
        """
        check_channels(volume, self.config["in_chans"])
        check_multiple(volume, (DOWNSAMPLING,) * 3)
        skips = [self.encoder1(volume)]
        for stage, feature in enumerate(self.vit(volume)):
            skips.append(self.get_submodule(f"encoder{stage + 2}")(feature))
        decoded = skips.pop()
        for level in range(STAGES, 0, -1):
            decoded = self.get_submodule(f"decoder{level + 1}")(decoded, skips.pop())
        logits: torch.Tensor = self.out(self.decoder1(decoded))
        return logits


DEFAULTS: dict[str, Any] = {
    "in_chans": 4,
    "out_chans": 4,
    "depths": [2, 2, 2, 2],
    "feat_size": [48, 96, 192, 384],
    "hidden_size": 768,
    "mlp_ratio": 2,
    "d_state": 16,
    "d_conv": 4,
    "expand": 2,
    "nslices": [64, 32, 16, 8],
    "mamba_residual": True,
}
"""The authors' BraTS 2023 configuration."""

PRESETS: dict[str, dict[str, Any]] = {"brats": {}}
