"""SegMaFormer: Mamba stages at high resolution, attention at the lowest, an all-MLP decoder.

Source: D. D. Nguyen and P. T. Tran-Truong, "SegMaFormer: A Hybrid State-Space and
Transformer Model for Efficient Segmentation", arXiv 2603.22002. Parameter names
are those of the authors' checkpoints. Instance norms, group norms, rotary
positions and the scan depend on the extent of the input: run tiles of the size
that the weights were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.inputs import check_channels, check_per_stage
from segmaformer.models.layers.tokens import Grid, grid_of, to_tokens, to_volume
from segmaformer.models.pyramids.rope import rotate
from segmaformer.models.pyramids.segmaformer_blocks import BLOCK_TYPES, AttentionBlock, MixerBlock

STAGES = 4
Extent = int | Sequence[int]


def _triple(value: Extent) -> Grid:
    depth, height, width = (value,) * 3 if isinstance(value, int) else value
    return depth, height, width


class PatchEmbedding(nn.Module):
    """Strided convolution, rotary position code, layer norm."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: Extent,
        stride: Extent,
        padding: Extent,
        rope_theta: float | None,
    ):
        super().__init__()
        self.rope_theta = rope_theta
        self.proj = nn.Conv3d(
            in_channels, channels, _triple(kernel), _triple(stride), _triple(padding)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, volume: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        """Embed a (B, C, D, H, W) volume; returns (B, N, channels) tokens and their grid."""
        volume = self.proj(volume)
        grid = grid_of(volume)
        volume = volume.permute(0, 2, 3, 4, 1)
        if self.rope_theta is not None:
            volume = rotate(volume, theta=self.rope_theta)
        tokens = volume.flatten(1, 3).to(self.norm.weight.dtype)
        return self.norm(tokens), grid


class Encoder(nn.Module):
    """Four stages; each yields a group-normalised feature volume for the decoder."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        channels = config["embed_dims"]
        rope_theta = config["rope_theta"] if config["use_rope"] else None
        for stage in range(STAGES):
            source = channels[stage - 1] if stage else config["in_channels"]
            embedding = PatchEmbedding(
                source,
                channels[stage],
                kernel=config["patch_kernel_size"][stage],
                stride=config["patch_stride"][stage],
                padding=config["patch_padding"][stage],
                rope_theta=rope_theta,
            )
            self.add_module(f"embed_{stage + 1}", embedding)
            blocks = [_make_block(config, stage) for _ in range(config["depths"][stage])]
            self.add_module(f"stage{stage + 1}", nn.ModuleList(blocks))
        self.norm4 = nn.LayerNorm(channels[-1])
        self.post_gn = nn.ModuleList(nn.GroupNorm(1, width) for width in channels)

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into four feature volumes, finest first."""
        features = []
        for stage in range(STAGES):
            tokens, grid = self.get_submodule(f"embed_{stage + 1}")(volume)
            if tokens.shape[1] < 2:
                raise ValueError(
                    f"stage {stage + 1} is left with one voxel; instance norm needs more: "
                    "use a larger input"
                )
            for block in self.get_submodule(f"stage{stage + 1}").children():
                tokens = block(tokens, grid)
            if stage == STAGES - 1:
                tokens = self.norm4(tokens)
            volume = to_volume(tokens, grid)
            features.append(self.post_gn[stage](volume))
        return features


def _make_block(config: dict[str, Any], stage: int) -> nn.Module:
    kind = config["stage_block_types"][stage]
    channels, mlp_ratio = config["embed_dims"][stage], config["mlp_ratios"][stage]
    if kind == "attention":
        heads, sr_ratio = config["num_heads"][stage], config["sr_ratios"][stage]
        return AttentionBlock(channels, heads=heads, sr_ratio=sr_ratio, mlp_ratio=mlp_ratio)
    return MixerBlock(
        channels,
        kind=kind,
        sr_ratio=config["sr_ratios"][stage],
        mlp_ratio=mlp_ratio,
        d_state=config["d_state"][stage],
        d_conv=config["d_conv"][stage],
        expand=config["expand"][stage],
        use_gate=config["use_gate"],
    )


class LinearEmbedding(nn.Module):
    """Projection of one feature volume's channels to the decoder's width."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Project (B, C, D, H, W) to (B, width, D, H, W)."""
        return to_volume(self.norm(self.proj(to_tokens(volume))), grid_of(volume))


class Decoder(nn.Module):
    """Decoder that brings all stages to the finest grid, fuses and classifies them."""

    def __init__(self, embed_dims: Sequence[int], width: int, classes: int, dropout: float):
        super().__init__()
        self.linears = nn.ModuleList(LinearEmbedding(channels, width) for channels in embed_dims)
        self.fuse = nn.Sequential(
            nn.Conv3d(STAGES * width, width, 1, bias=False),
            nn.InstanceNorm3d(width, affine=True),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.pred = nn.Conv3d(width, classes, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Turn four (B, C, D, H, W) volumes, finest first, into logits on the finest grid."""
        size = features[0].shape[2:]
        volumes = [linear(f) for linear, f in zip(self.linears, features, strict=True)]
        volumes[1:] = [F.interpolate(v, size=size, mode="trilinear") for v in volumes[1:]]
        logits: torch.Tensor = self.pred(self.dropout(self.fuse(torch.cat(volumes, dim=1))))
        return logits


class SegMaFormer(nn.Module):
    """The network; build it with :func:`segmaformer.models.create_model`.

    Parameters
    ----------
    config
        All keys of :data:`DEFAULTS`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        _check(config)
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(
            config["embed_dims"],
            config["decoder_head_embedding_dim"],
            config["num_classes"],
            config["decoder_dropout"],
        )

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Compute the logits of a volume.

        Parameters
        ----------
        volume
            Shape (B, in_channels, D, H, W), normalised intensities.

        Returns
        -------
        torch.Tensor
            Shape (B, num_classes, D, H, W), before softmax or sigmoid.

        Raises
        ------
        ValueError
            The number of axes or channels is wrong, or the input is so small that a stage is left
            with a single voxel.
        """
        check_channels(volume, self.config["in_channels"])
        logits = self.decoder(self.encoder(volume))
        return F.interpolate(logits, size=volume.shape[2:], mode="trilinear")


def _check(config: dict[str, Any]) -> None:
    check_per_stage(config, _PER_STAGE, STAGES, "SegMaFormer")
    unknown = sorted(set(config["stage_block_types"]) - set(BLOCK_TYPES))
    if unknown:
        raise ValueError(
            f"unknown stage_block_types {', '.join(unknown)}; known: {', '.join(BLOCK_TYPES)}"
        )


_PER_STAGE = (
    *("embed_dims", "depths", "mlp_ratios", "num_heads", "d_state", "d_conv", "expand"),
    *("sr_ratios", "patch_kernel_size", "patch_stride", "patch_padding", "stage_block_types"),
)

DEFAULTS: dict[str, Any] = {
    "in_channels": 1,
    "num_classes": 2,
    "embed_dims": [36, 66, 96, 192],
    "depths": [2, 2, 1, 1],
    "mlp_ratios": [4, 4, 3, 3],
    "num_heads": [1, 2, 4, 6],
    "d_state": [8, 4, 4, 4],
    "d_conv": [3, 3, 3, 3],
    "expand": [2, 2, 1, 1],
    "sr_ratios": [1, 1, 1, 1],
    "patch_kernel_size": [7, 3, 3, 3],
    "patch_stride": [4, 2, 2, 2],
    "patch_padding": [3, 1, 1, 1],
    "stage_block_types": ["mamba", "hybrid", "hybrid", "attention"],
    "use_gate": True,
    "use_rope": True,
    "rope_theta": 1e4,
    "decoder_head_embedding_dim": 256,
    "decoder_dropout": 0.0,
}
"""Every configuration key with the value most published configurations share."""

PRESETS: dict[str, dict[str, Any]] = {
    "brats": {"in_channels": 4, "num_classes": 3, "sr_ratios": [4, 2, 1, 1]},
    "bctv": {"num_classes": 14, "sr_ratios": [4, 2, 1, 1], "expand": [1, 1, 1, 1]},
    "bctv_fixed": {
        "num_classes": 14,
        "expand": [1, 1, 1, 1],
        "patch_kernel_size": [[3, 7, 7], 3, 3, 3],
        "patch_stride": [[2, 4, 4], 2, 2, 2],
        "patch_padding": [[1, 3, 3], 1, 1, 1],
    },
    "acdc": {"num_classes": 4},
    "acdc_fixed": {
        "num_classes": 4,
        "sr_ratios": [4, 2, 1, 1],
        "patch_kernel_size": [[1, 7, 7], [1, 3, 3], 3, 3],
        "patch_stride": [[1, 4, 4], [1, 2, 2], 2, 2],
        "patch_padding": [[0, 3, 3], [0, 1, 1], 1, 1],
    },
    "acdc_z8hw32": {
        "num_classes": 4,
        "patch_kernel_size": [[1, 7, 7], 3, 3, 3],
        "patch_stride": [[1, 4, 4], 2, 2, 2],
        "patch_padding": [[0, 3, 3], 1, 1, 1],
    },
    "bones": {
        "num_classes": 9,
        "embed_dims": [48, 66, 96, 192],
        "depths": [4, 3, 2, 1],
        "num_heads": [2, 2, 4, 6],
        "d_state": [16, 8, 4, 4],
        "expand": [2, 2, 2, 2],
        "patch_kernel_size": [3, 3, 3, 3],
        "patch_stride": [2, 2, 2, 2],
        "patch_padding": [1, 1, 1, 1],
        "decoder_head_embedding_dim": 320,
    },
}
"""The authors' released configurations, as differences from :data:`DEFAULTS`."""
