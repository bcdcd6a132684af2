"""Token layers that SegMaFormer and SegFormer3D share: attention and the Mix-FFN."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from segmaformer.models.layers.tokens import Grid, to_tokens, to_volume

Norm = Callable[[int], nn.Module]


def instance_norm(channels: int) -> nn.Module:
    """Create an instance norm with trained scale and shift."""
    return nn.InstanceNorm3d(channels, affine=True)


class DepthwiseConv(nn.Module):
    """Depthwise 3x3x3 convolution, norm and GELU between the two Mix-FFN layers."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.dwconv = nn.Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.bn = norm(channels)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Filter (B, N, C) tokens on their `grid`; returns the same shape."""
        return to_tokens(F.gelu(self.bn(self.dwconv(to_volume(tokens, grid)))))


class MixFFN(nn.Module):
    """Two linear layers with a depthwise convolution between them.

    Parameters
    ----------
    channels
        Number of features of a token.
    ratio
        Hidden width over `channels`.
    norm
        Function that makes the norm after the convolution.
    """

    def __init__(self, channels: int, ratio: float, *, norm: Norm = instance_norm):
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = DepthwiseConv(hidden, norm)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Transform (B, N, C) tokens on their `grid`; returns the same shape."""
        return self.fc2(self.dwconv(self.fc1(tokens), grid))


class Attention(nn.Module):
    """Multi-head self-attention; keys and values may come from a coarser grid.

    Parameters
    ----------
    channels
        Number of features of a token.
    heads
        Number of heads; divides `channels`.
    sr_ratio
        Factor by which the grid of keys and values is coarser along each axis.
    qkv_bias
        Whether queries, keys and values have a bias.
    """

    def __init__(self, channels: int, *, heads: int, sr_ratio: int = 1, qkv_bias: bool = False):
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"{channels} channels cannot be divided over {heads} attention heads; "
                "choose num_heads that divides embed_dims in every attention stage"
            )
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=qkv_bias)
        self.key_value = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        if sr_ratio > 1:
            self.sr = nn.Conv3d(channels, channels, sr_ratio, stride=sr_ratio)
            self.sr_norm = nn.LayerNorm(channels)

    def _split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Attend over (B, N, C) tokens; returns the same shape."""
        query = self._split_heads(self.query(tokens))
        source = tokens
        if hasattr(self, "sr"):
            source = self.sr_norm(to_tokens(self.sr(to_volume(tokens, grid))))
        key, value = (self._split_heads(t) for t in self.key_value(source).chunk(2, dim=-1))
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
        mixed = scores.softmax(dim=-1) @ value
        return self.proj(mixed.transpose(1, 2).flatten(2))
