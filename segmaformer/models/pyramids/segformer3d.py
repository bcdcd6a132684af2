"""SegFormer3D: four stages of efficient attention and an all-MLP decoder.

Source: S. Perera, P. Navard and A. Yilmaz, "SegFormer3D: An Efficient Transformer for
3D Medical Image Segmentation", arXiv 2404.10156. Parameter names are those of the
authors' checkpoints; the code here was written from a description of the network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.inputs import check_channels, check_per_stage
from segmaformer.models.layers.tokens import Grid, grid_of, to_tokens, to_volume
from segmaformer.models.pyramids.attention import Attention, MixFFN

STAGES = 4


class PatchEmbedding(nn.Module):
    """Strided convolution and layer norm."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int, padding: int):
        super().__init__()
        self.patch_embeddings = nn.Conv3d(in_channels, channels, kernel, stride, padding)
        self.norm = nn.LayerNorm(channels)

    def forward(self, volume: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        """Embed a (B, C, D, H, W) volume; returns (B, N, channels) tokens and their grid."""
        volume = self.patch_embeddings(volume)
        return self.norm(to_tokens(volume)), grid_of(volume)


class TransformerBlock(nn.Module):
    """Pre-norm attention and Mix-FFN; a batch norm inside the latter."""

    def __init__(self, channels: int, *, heads: int, sr_ratio: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads=heads, sr_ratio=sr_ratio, qkv_bias=True)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MixFFN(channels, mlp_ratio, norm=nn.BatchNorm3d)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Transform (B, N, C) tokens on their `grid`; returns the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens), grid)
        return tokens + self.mlp(self.norm2(tokens), grid)


class Encoder(nn.Module):
    """Four stages; the norm after each feeds both the decoder and the next stage."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        channels = config["embed_dims"]
        for stage in range(STAGES):
            embedding = PatchEmbedding(
                channels[stage - 1] if stage else config["in_channels"],
                channels[stage],
                kernel=config["patch_kernel_size"][stage],
                stride=config["patch_stride"][stage],
                padding=config["patch_padding"][stage],
            )
            blocks = [
                TransformerBlock(
                    channels[stage],
                    heads=config["num_heads"][stage],
                    sr_ratio=config["sr_ratios"][stage],
                    mlp_ratio=config["mlp_ratios"][stage],
                )
                for _ in range(config["depths"][stage])
            ]
            self.add_module(f"embed_{stage + 1}", embedding)
            self.add_module(f"tf_block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(channels[stage]))

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Turn a (B, C, D, H, W) volume into four feature volumes, finest first."""
        features = []
        for stage in range(1, STAGES + 1):
            tokens, grid = self.get_submodule(f"embed_{stage}")(volume)
            for block in self.get_submodule(f"tf_block{stage}").children():
                tokens = block(tokens, grid)
            volume = to_volume(self.get_submodule(f"norm{stage}")(tokens), grid)
            features.append(volume)
        return features


class LinearEmbedding(nn.Module):
    """Projection of one feature volume's channels to the decoder's width."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Linear(channels, width)
        self.bn = nn.LayerNorm(width)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Project (B, C, D, H, W) to (B, width, D, H, W)."""
        return to_volume(self.bn(self.proj(to_tokens(volume))), grid_of(volume))


class Decoder(nn.Module):
    """Decoder that brings all stages to the finest grid, fuses and classifies them."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        width = config["decoder_head_embedding_dim"]
        for stage, channels in enumerate(config["embed_dims"], start=1):
            self.add_module(f"linear_c{stage}", LinearEmbedding(channels, width))
        self.linear_fuse = nn.Sequential(
            nn.Conv3d(STAGES * width, width, 1, bias=False), nn.BatchNorm3d(width), nn.ReLU()
        )
        self.linear_pred = nn.Conv3d(width, config["num_classes"], 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Turn four (B, C, D, H, W) volumes, finest first, into logits on the finest grid."""
        size = features[0].shape[2:]
        volumes = []
        for stage in range(STAGES, 0, -1):
            volume = self.get_submodule(f"linear_c{stage}")(features[stage - 1])
            if stage > 1:
                volume = F.interpolate(volume, size=size, mode="trilinear")
            volumes.append(volume)
        logits: torch.Tensor = self.linear_pred(self.linear_fuse(torch.cat(volumes, dim=1)))
        return logits


class SegFormer3D(nn.Module):
    """The whole network.

    Parameters
    ----------
    config
        All keys of :data:`DEFAULTS`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        check_per_stage(config, _PER_STAGE, STAGES, "SegFormer3D")
        self.config = config
        self.segformer_encoder = Encoder(config)
        self.segformer_decoder = Decoder(config)

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
            The number of axes or channels is wrong.
        """
        check_channels(volume, self.config["in_channels"])
        logits = self.segformer_decoder(self.segformer_encoder(volume))
        return F.interpolate(logits, size=volume.shape[2:], mode="trilinear")


_PER_STAGE = (
    *("embed_dims", "depths", "mlp_ratios", "num_heads", "sr_ratios"),
    *("patch_kernel_size", "patch_stride", "patch_padding"),
)

DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "num_classes": 3,
    "embed_dims": [32, 64, 160, 256],
    "depths": [2, 2, 2, 2],
    "mlp_ratios": [4, 4, 4, 4],
    "num_heads": [1, 2, 5, 8],
    "sr_ratios": [4, 2, 1, 1],
    "patch_kernel_size": [7, 3, 3, 3],
    "patch_stride": [4, 2, 2, 2],
    "patch_padding": [3, 1, 1, 1],
    "decoder_head_embedding_dim": 256,
}
"""The authors' BraTS configuration."""

PRESETS: dict[str, dict[str, Any]] = {"brats": {}}
